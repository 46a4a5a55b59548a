// Blocks of sixteen rows of weights as bytes for products of limbs. Included inside a namespace compiled for
// AVX-512-VNNI; see limbs.cpp and few_limbs.cpp. The layouts are described in src/nomoat/formats/blocks32.py and blocks256.py.
//
// A register holds four neighbours in depth of each of sixteen rows, a dword of every row's block or a part of one: so
// a block's bytes are transposed by dwords, and then masked and shifted. What is stored of a weight is a number q from
// 0 on: weight = d (q - OFFSET) + m, where m is for types with minima alone, and lies about the middle then.

#include "sixteen_rows.inl"

// Where unpacked blocks go: fours of depths `FOURS` bytes apart, the scales and minima of their runs SCALES floats apart.
// About zero the offset is taken off the bytes, which are signed then.
template <int64_t FOURS, int64_t SCALES, bool ABOUT_ZERO>
struct Bytes {
    static constexpr int64_t APART = SCALES;
    uint8_t* q;
    float *d, *m;

    template <int OFFSET>
    NM_INLINE void four(int64_t number, __m512i bytes) const {
        const __m512i offset = _mm512_set1_epi8(static_cast<char>(OFFSET));
        _mm512_store_si512(q + number * FOURS, ABOUT_ZERO ? _mm512_sub_epi8(bytes, offset) : bytes);
    }

    // The same for what comes so many fours and scales later.
    NM_INLINE Bytes after(int64_t fours, int64_t scales) const {
        return {q + fours * FOURS, d + scales * SCALES, m + scales * SCALES};
    }
};

// Four bits from `Low` on in every byte.
template <int Low>
static NM_INLINE __m512i nibbles(__m512i dwords) {
    return _mm512_and_si512(moved<Low>(dwords), _mm512_set1_epi8(15));
}

template <int64_t Size, int Offset, bool Min>
struct Limbs32 {
    static constexpr int64_t SIZE = Size, WEIGHTS = 32, UNDER_A_SCALE = 32;
    static constexpr int OFFSET = Offset;
    static constexpr bool MIN = Min;
};

// 16 bytes of nibbles, the first 16 weights in the lower ones.
template <int OFFSET, class Out>
static NM_INLINE void nibbles_of(const SixteenRows& rows, int64_t at, const Out& out) {
    __m512i dword[4];
    rows.transposed(at, dword);
    for (int j = 0; j < 4; ++j) {
        out.template four<OFFSET>(j, nibbles<0>(dword[j]));
        out.template four<OFFSET>(4 + j, nibbles<4>(dword[j]));
    }
}

struct LimbsQ4_0 : Limbs32<18, 8, false> {
    template <class Out>
    static NM_INLINE void block(const SixteenRows& rows, const Out& out) {
        _mm512_store_ps(out.d, lower_halves(rows.dwords(0)));
        nibbles_of<OFFSET>(rows, 2, out);
    }
};

struct LimbsQ4_1 : Limbs32<20, 8, true> {
    template <class Out>
    static NM_INLINE void block(const SixteenRows& rows, const Out& out) {
        const __m512i scales = rows.dwords(0);
        store_about(OFFSET, lower_halves(scales), upper_halves(scales), out.d, out.m);
        nibbles_of<OFFSET>(rows, 4, out);
    }
};

struct LimbsIQ4_NL : Limbs32<18, 128, false> {
    template <class Out>
    static NM_INLINE void block(const SixteenRows& rows, const Out& out) {
        const __m512i levels = _mm512_broadcast_i32x4(  // -127 -104 -83 -65 -49 -35 -22 -10 1 13 25 38 53 69 89 113
            _mm_setr_epi8(1, 24, 45, 63, 79, 93, 106, 118, -127, -115, -103, -90, -75, -59, -39, -15));
        _mm512_store_ps(out.d, lower_halves(rows.dwords(0)));
        __m512i dword[4];
        rows.transposed(2, dword);
        for (int j = 0; j < 4; ++j) {
            out.template four<OFFSET>(j, _mm512_shuffle_epi8(levels, nibbles<0>(dword[j])));
            out.template four<OFFSET>(4 + j, _mm512_shuffle_epi8(levels, nibbles<4>(dword[j])));
        }
    }
};

// Four bits from `at` on as the fifth bits of four bytes.
static NM_INLINE __m512i as_fifth_bits(__m512i bits, int at) {
    const __m512i four = _mm512_and_si512(_mm512_srl_epi32(bits, _mm_cvtsi32_si128(at)), _mm512_set1_epi32(15));
    const __m512i spread = _mm512_mullo_epi32(four, _mm512_set1_epi32(1 | 1 << 7 | 1 << 14 | 1 << 21));
    return _mm512_slli_epi32(_mm512_and_si512(spread, _mm512_set1_epi8(1)), 4);
}

// 4 bytes of fifth bits, then 16 bytes of nibbles.
template <int OFFSET, class Out>
static NM_INLINE void five_bits_of(const SixteenRows& rows, int64_t at, const Out& out) {
    const __m512i bits = rows.dwords(at);
    __m512i dword[4];
    rows.transposed(at + 4, dword);
    for (int j = 0; j < 4; ++j) {
        out.template four<OFFSET>(j, _mm512_or_si512(nibbles<0>(dword[j]), as_fifth_bits(bits, 4 * j)));
        out.template four<OFFSET>(4 + j, _mm512_or_si512(nibbles<4>(dword[j]), as_fifth_bits(bits, 16 + 4 * j)));
    }
}

struct LimbsQ5_0 : Limbs32<22, 16, false> {
    template <class Out>
    static NM_INLINE void block(const SixteenRows& rows, const Out& out) {
        _mm512_store_ps(out.d, lower_halves(rows.dwords(0)));
        five_bits_of<OFFSET>(rows, 2, out);
    }
};

struct LimbsQ5_1 : Limbs32<24, 16, true> {
    template <class Out>
    static NM_INLINE void block(const SixteenRows& rows, const Out& out) {
        const __m512i scales = rows.dwords(0);
        store_about(OFFSET, lower_halves(scales), upper_halves(scales), out.d, out.m);
        five_bits_of<OFFSET>(rows, 4, out);
    }
};

struct LimbsQ8_0 : Limbs32<34, 128, false> {
    template <class Out>
    static NM_INLINE void block(const SixteenRows& rows, const Out& out) {
        const __m512i offset = _mm512_set1_epi8(static_cast<char>(OFFSET));
        _mm512_store_ps(out.d, lower_halves(rows.dwords(0)));
        for (int half = 0; half < 2; ++half) {
            __m512i dword[4];
            rows.transposed(2 + 16 * half, dword);
            for (int j = 0; j < 4; ++j) {
                out.template four<OFFSET>(4 * half + j, _mm512_xor_si512(dword[j], offset));
            }
        }
    }
};

template <int64_t Size, int Offset, bool Min, int64_t UnderAScale>
struct Limbs256 {
    static constexpr int64_t SIZE = Size, WEIGHTS = 256, UNDER_A_SCALE = UnderAScale;
    static constexpr int OFFSET = Offset;
    static constexpr bool MIN = Min;
};

struct LimbsQ4_K : Limbs256<144, 8, true, 32> {
    template <class Out>
    static NM_INLINE void block(const SixteenRows& rows, const Out& out) {
        eight_scales(rows, OFFSET, out.d, out.m, Out::APART);
        for (int part = 0; part < 8; ++part) {  // 16 bytes: half of a run in the lower nibbles, of the next in the upper
            const Out to = out.after(part / 2 * 16 + part % 2 * 4, 0);
            __m512i dword[4];
            rows.transposed(16 + 16 * part, dword);
            for (int j = 0; j < 4; ++j) {
                to.template four<OFFSET>(j, nibbles<0>(dword[j]));
                to.template four<OFFSET>(8 + j, nibbles<4>(dword[j]));
            }
        }
    }
};

struct LimbsQ5_K : Limbs256<176, 16, true, 32> {
    template <class Out>
    static NM_INLINE void block(const SixteenRows& rows, const Out& out) {
        eight_scales(rows, OFFSET, out.d, out.m, Out::APART);
        for (int half = 0; half < 2; ++half) {
            __m512i fifth[4];  // bit `run` of every byte
            rows.transposed(16 + 16 * half, fifth);
            for (int pair = 0; pair < 4; ++pair) {
                const Out to = out.after(16 * pair + 4 * half, 0);
                __m512i dword[4];
                rows.transposed(48 + 32 * pair + 16 * half, dword);
                for (int j = 0; j < 4; ++j) {
                    to.template four<OFFSET>(j, number(nibbles<0>(dword[j]), fifth[j], 2 * pair));
                    to.template four<OFFSET>(8 + j, number(nibbles<4>(dword[j]), fifth[j], 2 * pair + 1));
                }
            }
        }
    }

private:
    static NM_INLINE __m512i number(__m512i low, __m512i fifth, int run) {
        const __m512i bit = _mm512_and_si512(_mm512_srl_epi32(fifth, _mm_cvtsi32_si128(run)), _mm512_set1_epi8(1));
        return _mm512_or_si512(low, _mm512_slli_epi32(bit, 4));
    }
};

struct LimbsQ6_K : Limbs256<210, 32, false, 16> {
    template <class Out>
    static NM_INLINE void block(const SixteenRows& rows, const Out& out) {
        sixteen_scales(rows, out.d, Out::APART);
        for (int part = 0; part < 4; ++part) {  // 16 of 32 weights of each quarter, of either half of the block
            const int half = part / 2, at = 16 * (part % 2);
            __m512i low[4], next[4], high[4];
            rows.transposed(64 * half + at, low);
            rows.transposed(64 * half + 32 + at, next);
            rows.transposed(128 + 32 * half + at, high);
            const Out to = out.after(32 * half + 4 * (part % 2), 0);
            for (int j = 0; j < 4; ++j) {
                to.template four<OFFSET>(j, number<0>(nibbles<0>(low[j]), high[j]));
                to.template four<OFFSET>(8 + j, number<2>(nibbles<0>(next[j]), high[j]));
                to.template four<OFFSET>(16 + j, number<4>(nibbles<4>(low[j]), high[j]));
                to.template four<OFFSET>(24 + j, number<6>(nibbles<4>(next[j]), high[j]));
            }
        }
    }

private:
    // Two bits of every byte of `high` from `At` on, above the four of `low`.
    template <int At>
    static NM_INLINE __m512i number(__m512i low, __m512i high) {
        return _mm512_or_si512(low, _mm512_and_si512(moved<At - 4>(high), _mm512_set1_epi8(48)));
    }
};

// The next `n` weights of sixteen rows.
template <class Type, class Out>
static NM_INLINE void unpack_rows(SixteenRows rows, int64_t n, const Out& out) {
    constexpr int64_t FOURS = Type::WEIGHTS / 4, SCALES = Type::WEIGHTS / Type::UNDER_A_SCALE;
    for (int64_t b = 0; b < n / Type::WEIGHTS; ++b, rows.in += Type::SIZE) {
        Type::block(rows, out.after(b * FOURS, b * SCALES));
    }
}
