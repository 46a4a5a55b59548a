// How blocks of sixteen rows of weights become tiles of bfloat16: what all block types share. Included inside a
// namespace compiled for AMX; see few.cpp.
//
// A tile has a row for every two weights in depth and a column for every row of weights. Four neighbours in depth,
// 0 1 2 3, make the pairs (0, 2) and (1, 3): a dword of a block holds them at a distance of sixteen bits.

#include "sixteen_rows.inl"

constexpr int64_t AT_ONCE_FEW = 256;  // weights of each row that are unpacked together

// What was unpacked: weight = d q + m for the numbers q in the tiles, one (d, m) for all of a tile's column. Tiles lie
// one after the other; those of 32 weights in depth have 16 rows, those of 16 have 8.
struct Unpacked {
    alignas(64) uint16_t q[AT_ONCE_FEW * ROWS];
    alignas(64) float d[AT_ONCE_FEW / 16][ROWS];
    alignas(64) float m[AT_ONCE_FEW / 16][ROWS];
};

static NM_INLINE __m512i all_words(int value) { return _mm512_set1_epi16(static_cast<short>(value)); }

// The same in every 16 bits by themselves.
template <int By>
static NM_INLINE __m512i words_moved(__m512i v) {
    return By >= 0 ? _mm512_srli_epi16(v, By >= 0 ? By : 0) : _mm512_slli_epi16(v, By >= 0 ? 0 : -By);
}

// As bfloat16, first, first + 1, ... first + 31.
static NM_INLINE __m512i count_table(float first) {
    const __m512 number = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512 low = _mm512_add_ps(number, _mm512_set1_ps(first));
    return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(_mm512_add_ps(low, _mm512_set1_ps(16)), low));
}

// Sixteen numbers twice: for indices whose fifth bit means nothing.
static NM_INLINE __m512i twice(__m512 numbers) {
    return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(numbers, numbers));
}

static NM_INLINE __m512i from_minus_8() {
    return twice(_mm512_setr_ps(-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7));
}

// Row `row` of a tile.
static NM_INLINE void tile_row(uint16_t* tile, int row, __m512i words) { _mm512_store_si512(tile + 32 * row, words); }

// table[nibble] for nibbles `I` and I + 4 of every dword.
template <int I>
static NM_INLINE __m512i nibbles_among(__m512i dwords, __m512i table) {
    return _mm512_permutexvar_epi16(moved<4 * I>(dwords), table);
}

// table[nibble + 16 fifth bit]: nibbles `I` and I + 4, their fifth bits in places `Fifth` and 16 + Fifth.
template <int I, int Fifth>
static NM_INLINE __m512i five_bits_among(__m512i dwords, __m512i fifth, __m512i table) {
    const __m512i index = chosen_bits(all_words(16), moved<Fifth - 4>(fifth), moved<4 * I>(dwords));
    return _mm512_permutexvar_epi16(index, table);
}

// Whole numbers of eight significant bits to bfloat16 by way of float16, which has three bits fewer of exponent and
// more of fraction: what is found is smaller by 2^112, the difference of the exponents' middles.
static NM_INLINE __m512i whole_numbers(__m512i words) {
    const __m512i half = reinterpret_cast<__m512i>(_mm512_cvtepi16_ph(words));
    return _mm512_and_si512(_mm512_srai_epi16(half, 3), all_words(0x8FFF));
}
