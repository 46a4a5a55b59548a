// Blocks of sixteen rows of weights as tiles of bfloat16. Included inside a namespace compiled for AMX; see few.cpp.
// The layouts of the blocks are described in src/nomoat/formats/blocks32.py and blocks256.py.
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

// A type of which 256 weights in depth are unpacked: blocks of 32 here, whole blocks of 256 below. `COMMON` is a power
// of two that the numbers in the tiles are too small by.
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

// The numbers lie about zero, so that sums stay small: m is that of the middle.
static NM_INLINE void store_about(float middle, __m512 scale, __m512 min, float* d, float* m) {
    _mm512_store_ps(d, scale);
    _mm512_store_ps(m, _mm512_fmadd_ps(scale, _mm512_set1_ps(middle), min));
}

struct FewQ4_1 : Few32<20, true> {
    static NM_INLINE void block(const SixteenRows& rows, uint16_t* tile, float* d, float* m) {
        const __m512i scales = rows.dwords(0);
        store_about(8, lower_halves(scales), upper_halves(scales), d, m);
        tile_of_nibbles(rows, 4, from_minus_8(), tile);
    }
};

// table[nibble + 16 fifth bit]: nibbles `I` and I + 4, their fifth bits in places `Fifth` and 16 + Fifth.
template <int I, int Fifth>
static NM_INLINE __m512i five_bits_among(__m512i dwords, __m512i fifth, __m512i table) {
    const __m512i index = chosen_bits(all_words(16), moved<Fifth - 4>(fifth), moved<4 * I>(dwords));
    return _mm512_permutexvar_epi16(index, table);
}

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

// Whole numbers of eight significant bits to bfloat16 by way of float16, which has three bits fewer of exponent and
// more of fraction: what is found is smaller by 2^112, the difference of the exponents' middles.
static NM_INLINE __m512i whole_numbers(__m512i words) {
    const __m512i half = reinterpret_cast<__m512i>(_mm512_cvtepi16_ph(words));
    return _mm512_and_si512(_mm512_srai_epi16(half, 3), all_words(0x8FFF));
}

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

template <int64_t Size, bool Min, int64_t UnderAScale>
struct Few256 {
    static constexpr int64_t SIZE = Size, WEIGHTS = 256, UNDER_A_SCALE = UnderAScale;
    static constexpr bool MIN = Min;
    static constexpr float COMMON = 1;
};

// The scales d sc and minima -dmin m of eight runs of 32 weights, from the first 16 bytes; see read_pairs in
// blocks512.inl. `middle` as above.
static NM_INLINE void eight_scales(const SixteenRows& rows, float middle, Unpacked& out) {
    __m512i dword[4];
    rows.transposed(0, dword);
    const __m512i six = _mm512_set1_epi8(63), four = _mm512_set1_epi8(15), two = _mm512_set1_epi8(3);
    const __m512i top = _mm512_slli_epi32(_mm512_and_si512(_mm512_srli_epi32(dword[1], 6), two), 4);
    const __m512i top_min = _mm512_slli_epi32(_mm512_and_si512(_mm512_srli_epi32(dword[2], 6), two), 4);
    const __m512i scales[2] = {_mm512_and_si512(dword[1], six),
                               _mm512_or_si512(_mm512_and_si512(dword[3], four), top)};
    const __m512i minima[2] = {
        _mm512_and_si512(dword[2], six),
        _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi32(dword[3], 4), four), top_min)};
    const __m512 d = lower_halves(dword[0]), dmin = upper_halves(dword[0]);
    const __m512i byte = _mm512_set1_epi32(255);
    for (int run = 0; run < 8; ++run) {
        const __m128i by = _mm_cvtsi32_si128(run % 4 * 8);
        const __m512i scale = _mm512_and_si512(_mm512_srl_epi32(scales[run / 4], by), byte);
        const __m512i min = _mm512_and_si512(_mm512_srl_epi32(minima[run / 4], by), byte);
        const __m512 below = _mm512_mul_ps(dmin, _mm512_cvtepi32_ps(min));
        store_about(middle, _mm512_mul_ps(d, _mm512_cvtepi32_ps(scale)),
                    _mm512_sub_ps(_mm512_setzero_ps(), below), out.d[run], out.m[run]);
    }
}

struct FewQ4_K : Few256<144, true, 32> {
    static NM_INLINE void whole(const SixteenRows& rows, Unpacked& out) {
        const __m512i table = from_minus_8();
        eight_scales(rows, 8, out);
        for (int part = 0; part < 8; ++part) {  // 16 bytes: half of a run in the lower nibbles, of the next in the upper
            __m512i dword[4];
            rows.transposed(16 + 16 * part, dword);
            uint16_t* tile = out.q + part / 2 * 1024 + part % 2 * 256;
            for (int j = 0; j < 4; ++j) {
                tile_row(tile, 2 * j, nibbles_among<0>(dword[j], table));
                tile_row(tile, 2 * j + 1, nibbles_among<2>(dword[j], table));
                tile_row(tile + 512, 2 * j, nibbles_among<1>(dword[j], table));
                tile_row(tile + 512, 2 * j + 1, nibbles_among<3>(dword[j], table));
            }
        }
    }
};

struct FewQ5_K : Few256<176, true, 32> {
    static NM_INLINE void whole(const SixteenRows& rows, Unpacked& out) {
        eight_scales(rows, 16, out);
        for (int half = 0; half < 2; ++half) {
            __m512i fifth[4];  // bit `run` of every byte
            rows.transposed(16 + 16 * half, fifth);
            pair_of_runs<0>(rows, half, fifth, out);
            pair_of_runs<2>(rows, half, fifth, out);
            pair_of_runs<4>(rows, half, fifth, out);
            pair_of_runs<6>(rows, half, fifth, out);
        }
    }

private:
    template <int Run>
    static NM_INLINE void pair_of_runs(const SixteenRows& rows, int half, const __m512i* fifth, Unpacked& out) {
        const __m512i table = count_table(-16);
        uint16_t* tile = out.q + Run * 512 + half * 256;
        __m512i dword[4];
        rows.transposed(48 + 16 * Run + 16 * half, dword);
        for (int j = 0; j < 4; ++j) {
            tile_row(tile, 2 * j, five_bits_among<0, Run>(dword[j], fifth[j], table));
            tile_row(tile, 2 * j + 1, five_bits_among<2, 8 + Run>(dword[j], fifth[j], table));
            tile_row(tile + 512, 2 * j, five_bits_among<1, Run + 1>(dword[j], fifth[j], table));
            tile_row(tile + 512, 2 * j + 1, five_bits_among<3, 9 + Run>(dword[j], fifth[j], table));
        }
    }
};

struct FewQ6_K : Few256<210, false, 16> {
    static constexpr float COMMON = 0x1p102f;  // numbers in the upper six bits

    static NM_INLINE void whole(const SixteenRows& rows, Unpacked& out) {
        sixteen_scales(rows, out);
        for (int part = 0; part < 4; ++part) {  // 16 of 32 weights of each quarter, of either half of the block
            const int half = part / 2, at = 16 * (part % 2);
            __m512i low[4], next[4], high[4];
            rows.transposed(64 * half + at, low);
            rows.transposed(64 * half + 32 + at, next);
            rows.transposed(128 + 32 * half + at, high);
            uint16_t* tile = out.q + half * 2048 + part % 2 * 256;
            for (int j = 0; j < 4; ++j) {
                pair_of_rows<0, 0>(low[j], high[j], tile, j);
                pair_of_rows<0, 1>(next[j], high[j], tile + 512, j);
                pair_of_rows<4, 2>(low[j], high[j], tile + 1024, j);
                pair_of_rows<4, 3>(next[j], high[j], tile + 1536, j);
            }
        }
    }

private:
    // Four bits from `Low` on in every byte of low, and two more above them, the pair number `High` in every byte.
    template <int Low, int High>
    static NM_INLINE void pair_of_rows(__m512i low, __m512i high, uint16_t* tile, int j) {
        tile_row(tile, 2 * j, number(words_moved<Low - 10>(low), words_moved<2 * High - 14>(high)));
        tile_row(tile, 2 * j + 1, number(words_moved<Low - 2>(low), words_moved<2 * High - 6>(high)));
    }

    // Two bits of `high`, four of `low`: as a number about zero, 32 less.
    static NM_INLINE __m512i number(__m512i low, __m512i high) {
        const __m512i both = chosen_bits(all_words(0xC000), high, low);
        return whole_numbers(_mm512_ternarylogic_epi32(both, all_words(0xFC00), all_words(0x8000), 0x6A));  // (& ) ^
    }

    static NM_INLINE void sixteen_scales(const SixteenRows& rows, Unpacked& out) {
        __m512i dword[4];
        rows.transposed(192, dword);
        const __m512 d = upper_halves(rows.dwords(206));
        for (int j = 0; j < 4; ++j) {
            for (int i = 0; i < 4; ++i) {
                const __m512i up = _mm512_sll_epi32(dword[j], _mm_cvtsi32_si128(24 - 8 * i));
                const __m512 scale = _mm512_cvtepi32_ps(_mm512_srai_epi32(up, 24));
                _mm512_store_ps(out.d[4 * j + i], _mm512_mul_ps(d, scale));
            }
        }
    }
};
