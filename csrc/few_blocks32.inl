// Blocks of 32 weights as tiles of bfloat16. Included inside a namespace compiled for AMX; see few.cpp. The
// layouts are described in src/nomoat/formats/blocks32.py.

// 16 bytes of nibbles, the first 16 weights in the lower ones.
static NM_INLINE void tile_of_nibbles(const SixteenRows& rows, int64_t at, __m512i table, uint16_t* tile) {
    __m512i dword[4];
    rows.transposed(at, dword);
    for (int j = 0; j < 4; ++j) {
        tile_row(tile, 2 * j, nibbles_among<0>(dword[j], table));
        tile_row(tile, 2 * j + 1, nibbles_among<2>(dword[j], table));
        tile_row(tile, 2 * j + 8, nibbles_among<1>(dword[j], table));
        tile_row(tile, 2 * j + 9, nibbles_among<3>(dword[j], table));
    }
}

// A type of which eight blocks are unpacked at once. `COMMON` is a power of two that the numbers in the tiles are too
// small by, here and in few_blocks256.inl.
template <int64_t Size, bool Min>
struct Few32 {
    static constexpr int64_t SIZE = Size, WEIGHTS = 32, UNDER_A_SCALE = 32;
    static constexpr bool MIN = Min;
    static constexpr float COMMON = 1;
};

struct FewQ4_0 : Few32<18, false> {
    static NM_INLINE void block(const SixteenRows& rows, uint16_t* tile, float* d, float*) {
        _mm512_store_ps(d, lower_halves(rows.dwords(0)));
        tile_of_nibbles(rows, 2, from_minus_8(), tile);
    }
};

struct FewIQ4_NL : Few32<18, false> {
    static NM_INLINE void block(const SixteenRows& rows, uint16_t* tile, float* d, float*) {
        const __m512 levels = _mm512_setr_ps(-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113);
        _mm512_store_ps(d, lower_halves(rows.dwords(0)));
        tile_of_nibbles(rows, 2, twice(levels), tile);
    }
};

struct FewQ4_1 : Few32<20, true> {
    static NM_INLINE void block(const SixteenRows& rows, uint16_t* tile, float* d, float* m) {
        const __m512i scales = rows.dwords(0);
        store_about(8, lower_halves(scales), upper_halves(scales), d, m);
        tile_of_nibbles(rows, 4, from_minus_8(), tile);
    }
};

// Sixteen bits that belong to as many weights, as fifth bits for `five_bits_among`: those of the weights that come
// second in their pairs in the upper half.
static NM_INLINE __m512i in_pairs(__m512i bits) {
    const __m512i lower = _mm512_set1_epi32(0xFFFF);
    return chosen_bits(lower, bits, _mm512_slli_epi32(bits, 14));
}

template <int J>
static NM_INLINE void five_bits_dword(__m512i dword, __m512i first, __m512i second, __m512i table, uint16_t* tile) {
    tile_row(tile, 2 * J, five_bits_among<0, 4 * J>(dword, first, table));
    tile_row(tile, 2 * J + 1, five_bits_among<2, 4 * J + 1>(dword, first, table));
    tile_row(tile, 2 * J + 8, five_bits_among<1, 4 * J>(dword, second, table));
    tile_row(tile, 2 * J + 9, five_bits_among<3, 4 * J + 1>(dword, second, table));
}

// 4 bytes of fifth bits, then 16 bytes of nibbles.
static NM_INLINE void tile_of_five_bits(const SixteenRows& rows, int64_t at, uint16_t* tile) {
    const __m512i bits = rows.dwords(at), table = count_table(-16);
    const __m512i first = in_pairs(bits), second = in_pairs(_mm512_srli_epi32(bits, 16));
    __m512i dword[4];
    rows.transposed(at + 4, dword);
    five_bits_dword<0>(dword[0], first, second, table, tile);
    five_bits_dword<1>(dword[1], first, second, table, tile);
    five_bits_dword<2>(dword[2], first, second, table, tile);
    five_bits_dword<3>(dword[3], first, second, table, tile);
}

struct FewQ5_0 : Few32<22, false> {
    static NM_INLINE void block(const SixteenRows& rows, uint16_t* tile, float* d, float*) {
        _mm512_store_ps(d, lower_halves(rows.dwords(0)));
        tile_of_five_bits(rows, 2, tile);
    }
};

struct FewQ5_1 : Few32<24, true> {
    static NM_INLINE void block(const SixteenRows& rows, uint16_t* tile, float* d, float* m) {
        const __m512i scales = rows.dwords(0);
        store_about(16, lower_halves(scales), upper_halves(scales), d, m);
        tile_of_five_bits(rows, 4, tile);
    }
};

struct FewQ8_0 : Few32<34, false> {
    static constexpr float COMMON = 0x1p104f;  // numbers in the upper byte

    static NM_INLINE void block(const SixteenRows& rows, uint16_t* tile, float* d, float*) {
        _mm512_store_ps(d, lower_halves(rows.dwords(0)));
        for (int half = 0; half < 2; ++half) {
            __m512i dword[4];
            rows.transposed(2 + 16 * half, dword);
            for (int j = 0; j < 4; ++j) {
                tile_row(tile, 8 * half + 2 * j, whole_numbers(_mm512_slli_epi16(dword[j], 8)));
                tile_row(tile, 8 * half + 2 * j + 1, whole_numbers(_mm512_and_si512(dword[j], all_words(0xFF00))));
            }
        }
    }
};
