// Blocks of 256 weights as tiles of bfloat16. Included inside a namespace compiled for AMX; see few.cpp. The
// layouts are described in src/nomoat/formats/blocks256.py.

template <int64_t Size, bool Min, int64_t UnderAScale>
struct Few256 {
    static constexpr int64_t SIZE = Size, WEIGHTS = 256, UNDER_A_SCALE = UnderAScale;
    static constexpr bool MIN = Min;
    static constexpr float COMMON = 1;
};

struct FewQ4_K : Few256<144, true, 32> {
    static NM_INLINE void whole(const SixteenRows& rows, Unpacked& out) {
        const __m512i table = from_minus_8();
        eight_scales(rows, 8, out.d[0], out.m[0], ROWS);
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
        eight_scales(rows, 16, out.d[0], out.m[0], ROWS);
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
        sixteen_scales(rows, out.d[0], ROWS);
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
};
