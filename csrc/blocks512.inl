// The common block types with AVX-512. Included for that set only, in place of the versions in blocks32.inl and
// blocks256.inl, which say the same in fewer words; same operations on the same numbers, so the same bits.
//
// A four-bit weight has sixteen values, and a register holds sixteen floats: so all values of a block are computed
// first, d q + m as ever, and the quants choose among them. The scales of several blocks are read in one go, since
// turning one half into a float and spreading it costs as much as eight weights.

constexpr int64_t AT_ONCE = 16;  // blocks

struct Scales {
    alignas(64) float d[AT_ONCE], m[AT_ONCE];
};

// The first two halves of up to sixteen blocks, `size` bytes each.
static inline void read_scales(const uint8_t* in, int64_t size, int64_t n, Scales& scales) {
    const __m512i number = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i place = _mm512_mullo_epi32(number, _mm512_set1_epi32(static_cast<int>(size)));
    const __mmask16 some = static_cast<__mmask16>((1u << n) - 1);
    const __m512i pairs = _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), some, place, in, 1);
    _mm512_store_ps(scales.d, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(pairs)));
    _mm512_store_ps(scales.m, _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_srli_epi32(pairs, 16))));
}

// first, first + 1, ... first + 15.
static inline __m512 count_from(float first) {
    const __m512 number = _mm512_setr_ps(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    return _mm512_add_ps(number, _mm512_set1_ps(first));
}

static inline __m512 values(float d, __m512 q) { return _mm512_mul_ps(_mm512_set1_ps(d), q); }

static inline __m512 values(float d, __m512 q, float m) { return _mm512_add_ps(values(d, q), _mm512_set1_ps(m)); }

// 16 bytes, each in 32 bits.
static inline __m512i spread(const uint8_t* in) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(in)));
}

// table[low four bits of q].
static inline void choose(__m512i q, __m512 table, float* out) {
    _mm512_storeu_ps(out, _mm512_permutexvar_ps(q, table));
}

// The same among 32 values; the set bits of `upper` mean the second sixteen.
static inline void choose(__m512i q, __mmask16 upper, __m512 low, __m512 high, float* out) {
    _mm512_storeu_ps(out, _mm512_mask_permutexvar_ps(_mm512_permutexvar_ps(q, low), upper, q, high));
}

// Where the scales of block i of n are; reads those of the next sixteen when it is their turn.
static inline int64_t turn(const uint8_t* in, int64_t size, int64_t i, int64_t n, Scales& scales) {
    const int64_t at = i % AT_ONCE;
    if (at == 0) {
        read_scales(in, size, std::min(AT_ONCE, n - i), scales);
    }
    return at;
}

static inline void nibbles_among(const uint8_t* in, __m512 table, float* out) {
    const __m512i bytes = spread(in);
    choose(bytes, table, out);
    choose(_mm512_srli_epi32(bytes, 4), table, out + 16);
}

static inline void five_bits_among(const uint8_t* in, uint32_t fifth, __m512 low, __m512 high, float* out) {
    const __m512i bytes = spread(in);
    choose(bytes, static_cast<__mmask16>(fifth), low, high, out);
    choose(_mm512_srli_epi32(bytes, 4), static_cast<__mmask16>(fifth >> 16), low, high, out + 16);
}

static void expand_q4_0(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    const __m512 q = count_from(-8);
    Scales scales;
    for (int64_t i = 0; i < n; ++i, in += 18, out += 32) {
        const int64_t at = turn(in, 18, i, n, scales);
        nibbles_among(in + 2, values(scales.d[at], q), out);
    }
}

static void expand_q4_1(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    const __m512 q = count_from(0);
    Scales scales;
    for (int64_t i = 0; i < n; ++i, in += 20, out += 32) {
        const int64_t at = turn(in, 20, i, n, scales);
        nibbles_among(in + 4, values(scales.d[at], q, scales.m[at]), out);
    }
}

static void expand_iq4_nl(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    const __m512 q = floats(_mm_loadu_si128(reinterpret_cast<const __m128i*>(levels)));
    Scales scales;
    for (int64_t i = 0; i < n; ++i, in += 18, out += 32) {
        const int64_t at = turn(in, 18, i, n, scales);
        nibbles_among(in + 2, values(scales.d[at], q), out);
    }
}

static void expand_q5_0(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    const __m512 low = count_from(-16), high = count_from(0);
    Scales scales;
    for (int64_t i = 0; i < n; ++i, in += 22, out += 32) {
        const int64_t at = turn(in, 22, i, n, scales);
        five_bits_among(in + 6, load32(in + 2), values(scales.d[at], low), values(scales.d[at], high), out);
    }
}

static void expand_q5_1(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    const __m512 low = count_from(0), high = count_from(16);
    Scales scales;
    for (int64_t i = 0; i < n; ++i, in += 24, out += 32) {
        const int64_t at = turn(in, 24, i, n, scales);
        five_bits_among(in + 8, load32(in + 4), values(scales.d[at], low, scales.m[at]), values(scales.d[at], high, scales.m[at]), out);
    }
}

static inline void scaled(const uint8_t* in, float d, float* out) {
    const __m128i q = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in));
    _mm512_storeu_ps(out, _mm512_mul_ps(_mm512_set1_ps(d), floats(q)));
}

static void expand_q8_0(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    Scales scales;
    for (int64_t i = 0; i < n; ++i, in += 34, out += 32) {
        const int64_t at = turn(in, 34, i, n, scales);
        scaled(in + 2, scales.d[at], out);
        scaled(in + 18, scales.d[at], out + 16);
    }
}

// d q of the 8 scales and -dmin q of the 8 minima in 12 bytes; see six_bit_pairs.
static inline void read_pairs(const uint8_t* in, float d, float dmin, Scales& scales) {
    constexpr uint32_t SIX = 0x3F3F3F3F, FOUR = 0x0F0F0F0F, TWO = 0x03030303;
    const uint32_t first = load32(in), second = load32(in + 4), rest = load32(in + 8);
    const uint32_t upper = (rest & FOUR) | ((first >> 6) & TWO) << 4;
    const uint32_t upper_min = ((rest >> 4) & FOUR) | ((second >> 6) & TWO) << 4;
    const __m128i bytes = _mm_setr_epi32(static_cast<int>(first & SIX), static_cast<int>(upper),
                                         static_cast<int>(second & SIX), static_cast<int>(upper_min));
    const __m512 numbers = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
    const __m512 by = _mm512_insertf32x8(_mm512_set1_ps(-dmin), _mm256_set1_ps(d), 0);
    const __m512 pairs = _mm512_mul_ps(by, numbers);
    _mm256_store_ps(scales.d, _mm512_castps512_ps256(pairs));
    _mm256_store_ps(scales.m, _mm512_extractf32x8_ps(pairs, 1));
}

static void expand_q4_k(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    const __m512 q = count_from(0);
    Scales scales;
    for (int64_t b = 0; b < n; ++b, in += 144) {
        read_pairs(in + 4, half_at(in), half_at(in + 2), scales);
        for (int g = 0; g < 8; g += 2, out += 64) {
            const __m512 even = values(scales.d[g], q, scales.m[g]), odd = values(scales.d[g + 1], q, scales.m[g + 1]);
            for (int half = 0; half < 2; ++half) {
                const __m512i bytes = spread(in + 16 + 16 * g + 16 * half);
                choose(bytes, even, out + 16 * half);
                choose(_mm512_srli_epi32(bytes, 4), odd, out + 32 + 16 * half);
            }
        }
    }
}

static void expand_q5_k(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    const __m512 low = count_from(0), high = count_from(16);
    Scales scales;
    for (int64_t b = 0; b < n; ++b, in += 176) {
        read_pairs(in + 4, half_at(in), half_at(in + 2), scales);
        for (int half = 0; half < 2; ++half) {
            const __m512i fifth = spread(in + 16 + 16 * half);
            for (int g = 0; g < 8; ++g) {
                const __m512i bytes = spread(in + 48 + 32 * (g / 2) + 16 * half);
                const __m512i q = _mm512_srl_epi32(bytes, _mm_cvtsi32_si128(4 * (g % 2)));
                const __mmask16 upper = _mm512_test_epi32_mask(fifth, _mm512_set1_epi32(1 << g));
                choose(q, upper, values(scales.d[g], low, scales.m[g]), values(scales.d[g], high, scales.m[g]),
                       out + 32 * g + 16 * half);
            }
        }
        out += 256;
    }
}

// `first` in every 16 bits of the lower half, `second` in those of the upper one.
static inline __m512i halves16(short first, short second) {
    return _mm512_inserti64x4(_mm512_set1_epi16(first), _mm256_set1_epi16(second), 1);
}

static void expand_q6_k(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    alignas(64) uint8_t quants[128];
    const __m512i low_bits = _mm512_set1_epi8(15), high_bits = _mm512_set1_epi8(48), middle = _mm512_set1_epi8(32);
    const __m512i early_by = halves16(4, 2), late_by = halves16(0, 2);
    for (int64_t b = 0; b < n; ++b, in += 210) {
        const __m512 d = _mm512_set1_ps(half_at(in + 208));
        const __m128i steps = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + 192));
        alignas(64) float scales[16];
        _mm512_store_ps(scales, _mm512_mul_ps(d, floats(steps)));
        for (int half = 0; half < 2; ++half) {
            const __m512i low = _mm512_loadu_si512(in + 64 * half);
            const __m512i high = _mm512_broadcast_i64x4(small_at(in + 128 + 32 * half));
            const __m512i first = _mm512_and_si512(_mm512_sllv_epi16(high, early_by), high_bits);
            const __m512i second = _mm512_and_si512(_mm512_srlv_epi16(high, late_by), high_bits);
            const __m512i early = _mm512_or_si512(_mm512_and_si512(low, low_bits), first);
            const __m512i late = _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi16(low, 4), low_bits), second);
            _mm512_store_si512(quants, _mm512_sub_epi8(early, middle));
            _mm512_store_si512(quants + 64, _mm512_sub_epi8(late, middle));
            for (int run = 0; run < 8; ++run, out += 16) {
                scaled(quants + 16 * run, scales[8 * half + run], out);
            }
        }
    }
}

static void expand_iq4_xs(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    const __m512 q = floats(_mm_loadu_si128(reinterpret_cast<const __m128i*>(levels)));
    for (int64_t b = 0; b < n; ++b, in += 136) {
        const float d = half_at(in);
        const int high = load16(in + 2);
        for (int g = 0; g < 8; ++g, out += 32) {
            const int low = (in[4 + g / 2] >> (4 * (g % 2))) & 15;
            nibbles_among(in + 8 + 16 * g, values(times(d, (low | ((high >> (2 * g)) & 3) << 4) - 32), q), out);
        }
    }
}
