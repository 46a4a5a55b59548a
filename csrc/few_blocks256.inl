// Blocks of 256 weights as tiles of bfloat16. Included inside a namespace compiled for AMX; see few.cpp. The
// layouts are described in src/nomoat/formats/blocks256.py.

template <int64_t Size, bool Min, int64_t UnderAScale>
struct Few256 {
    static constexpr int64_t SIZE = Size, WEIGHTS = 256, UNDER_A_SCALE = UnderAScale;
    static constexpr bool MIN = Min;
    static constexpr float COMMON = 1;
};

// The scales d sc and minima -dmin m of eight runs of 32 weights, from the first 16 bytes; see read_pairs in
// blocks512.inl. `middle` as in store_about.
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
