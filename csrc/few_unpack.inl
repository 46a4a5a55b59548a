// How blocks of sixteen rows of weights become tiles of bfloat16: what all block types share. Included inside a
// namespace compiled for AMX; see few.cpp.
//
// A tile has a row for every two weights in depth and a column for every row of weights. Four neighbours in depth,
// 0 1 2 3, make the pairs (0, 2) and (1, 3): a dword of a block holds them at a distance of sixteen bits.

constexpr int64_t ROWS = 16;         // of weights that are unpacked side by side
constexpr int64_t AT_ONCE_FEW = 256;  // weights of each

// What was unpacked: weight = d q + m for the numbers q in the tiles, one (d, m) for all of a tile's column. Tiles lie
// one after the other; those of 32 weights in depth have 16 rows, those of 16 have 8.
struct Unpacked {
    alignas(64) uint16_t q[AT_ONCE_FEW * ROWS];
    alignas(64) float d[AT_ONCE_FEW / 16][ROWS];
    alignas(64) float m[AT_ONCE_FEW / 16][ROWS];
};

// Sixteen rows of blocks, `apart` bytes apart.
struct SixteenRows {
    const uint8_t* in;
    int64_t apart;

    NM_INLINE __m512i dwords(int64_t at) const {  // four bytes of every row
        const __m512i number = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        const __m512i place = _mm512_mullo_epi32(number, _mm512_set1_epi32(static_cast<int>(apart)));
        return _mm512_i32gather_epi32(place, in + at, 1);
    }

    NM_INLINE __m512i fours(int64_t at, int i) const {  // sixteen bytes of rows i, i + 4, i + 8 and i + 12
        const uint8_t* from = in + at + i * apart;
        __m512i found = _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
        found = _mm512_inserti32x4(found, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 4 * apart)), 1);
        found = _mm512_inserti32x4(found, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 8 * apart)), 2);
        return _mm512_inserti32x4(found, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 12 * apart)), 3);
    }

    // Sixteen bytes of every row as four times a dword of every row.
    NM_INLINE void transposed(int64_t at, __m512i* out) const {
        const __m512i a = fours(at, 0), b = fours(at, 1), c = fours(at, 2), d = fours(at, 3);
        const __m512i low = _mm512_unpacklo_epi32(a, b), high = _mm512_unpackhi_epi32(a, b);
        const __m512i low_too = _mm512_unpacklo_epi32(c, d), high_too = _mm512_unpackhi_epi32(c, d);
        out[0] = _mm512_unpacklo_epi64(low, low_too);
        out[1] = _mm512_unpackhi_epi64(low, low_too);
        out[2] = _mm512_unpacklo_epi64(high, high_too);
        out[3] = _mm512_unpackhi_epi64(high, high_too);
    }
};

static NM_INLINE __m512i all_words(int value) { return _mm512_set1_epi16(static_cast<short>(value)); }

// mask ? a : b, bit by bit.
static NM_INLINE __m512i chosen_bits(__m512i mask, __m512i a, __m512i b) {
    return _mm512_ternarylogic_epi32(mask, a, b, 0xCA);
}

// v >> by, or to the left if that is negative.
template <int By>
static NM_INLINE __m512i moved(__m512i v) {
    return By >= 0 ? _mm512_srli_epi32(v, By >= 0 ? By : 0) : _mm512_slli_epi32(v, By >= 0 ? 0 : -By);
}

// The same in every 16 bits by themselves.
template <int By>
static NM_INLINE __m512i words_moved(__m512i v) {
    return By >= 0 ? _mm512_srli_epi16(v, By >= 0 ? By : 0) : _mm512_slli_epi16(v, By >= 0 ? 0 : -By);
}

// The half in the lower or upper 16 bits of every dword.
static NM_INLINE __m512 lower_halves(__m512i v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }
static NM_INLINE __m512 upper_halves(__m512i v) { return lower_halves(_mm512_srli_epi32(v, 16)); }

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

// The numbers lie about zero, so that sums stay small: m is that of the middle.
static NM_INLINE void store_about(float middle, __m512 scale, __m512 min, float* d, float* m) {
    _mm512_store_ps(d, scale);
    _mm512_store_ps(m, _mm512_fmadd_ps(scale, _mm512_set1_ps(middle), min));
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
