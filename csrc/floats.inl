// Several floats at a time: the vocabulary in which the kernels between the products are written. Included once per
// instruction set, inside its namespace; see each_set.inl.

#if NM_VECTOR == 512

using Floats = __m512;
constexpr int64_t W = 16;  // floats in a Floats

static inline __mmask16 first(int64_t n) { return static_cast<__mmask16>((1u << n) - 1); }
static inline Floats load(const float* p) { return _mm512_loadu_ps(p); }
static inline Floats load_part(const float* p, int64_t n) { return _mm512_maskz_loadu_ps(first(n), p); }
static inline void store(float* p, Floats v) { _mm512_storeu_ps(p, v); }
static inline void store_part(float* p, Floats v, int64_t n) { _mm512_mask_storeu_ps(p, first(n), v); }
static inline Floats all(float x) { return _mm512_set1_ps(x); }
static inline Floats add(Floats a, Floats b) { return _mm512_add_ps(a, b); }
static inline Floats sub(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
static inline Floats mul(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
static inline Floats div(Floats a, Floats b) { return _mm512_div_ps(a, b); }
static inline Floats fma(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }
static inline Floats root(Floats v) { return _mm512_sqrt_ps(v); }
// b where either is not a number.
static inline Floats lesser(Floats a, Floats b) { return _mm512_min_ps(a, b); }
static inline Floats greater(Floats a, Floats b) { return _mm512_max_ps(a, b); }
static inline Floats whole(Floats v) { return _mm512_roundscale_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
// v * 2^n for whole n.
static inline Floats scaled_by_power(Floats v, Floats n) { return _mm512_scalef_ps(v, n); }
// x < y ? a : b.
static inline Floats where_less(Floats x, Floats y, Floats a, Floats b) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, y, _CMP_LT_OQ), b, a);
}
static inline Floats size(Floats v) { return _mm512_abs_ps(v); }
// The size of v with the sign of s.
static inline Floats with_sign(Floats v, Floats s) {
    const __m512i mask = _mm512_set1_epi32(0x7fffffff);
    return _mm512_castsi512_ps(
        _mm512_ternarylogic_epi32(mask, _mm512_castps_si512(v), _mm512_castps_si512(s), 0xca));
}
static inline float sum(Floats v) { return _mm512_reduce_add_ps(v); }
static inline float largest(Floats v) { return _mm512_reduce_max_ps(v); }

#elif NM_VECTOR == 256

using Floats = __m256;
constexpr int64_t W = 8;

static inline __m256i first(int64_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
}
static inline Floats load(const float* p) { return _mm256_loadu_ps(p); }
static inline Floats load_part(const float* p, int64_t n) { return _mm256_maskload_ps(p, first(n)); }
static inline void store(float* p, Floats v) { _mm256_storeu_ps(p, v); }
static inline void store_part(float* p, Floats v, int64_t n) { _mm256_maskstore_ps(p, first(n), v); }
static inline Floats all(float x) { return _mm256_set1_ps(x); }
static inline Floats add(Floats a, Floats b) { return _mm256_add_ps(a, b); }
static inline Floats sub(Floats a, Floats b) { return _mm256_sub_ps(a, b); }
static inline Floats mul(Floats a, Floats b) { return _mm256_mul_ps(a, b); }
static inline Floats div(Floats a, Floats b) { return _mm256_div_ps(a, b); }
static inline Floats fma(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }
static inline Floats root(Floats v) { return _mm256_sqrt_ps(v); }
static inline Floats lesser(Floats a, Floats b) { return _mm256_min_ps(a, b); }
static inline Floats greater(Floats a, Floats b) { return _mm256_max_ps(a, b); }
static inline Floats whole(Floats v) { return _mm256_round_ps(v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
static inline Floats scaled_by_power(Floats v, Floats n) {
    // In two halves, so that neither power leaves the range of exponents.
    const __m256i power = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(power, 1);
    const __m256i one = _mm256_set1_epi32(127);
    const __m256i a = _mm256_slli_epi32(_mm256_add_epi32(half, one), 23);
    const __m256i b = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(power, half), one), 23);
    return _mm256_mul_ps(_mm256_mul_ps(v, _mm256_castsi256_ps(a)), _mm256_castsi256_ps(b));
}
static inline Floats where_less(Floats x, Floats y, Floats a, Floats b) {
    return _mm256_blendv_ps(b, a, _mm256_cmp_ps(x, y, _CMP_LT_OQ));
}
static inline Floats size(Floats v) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), v); }
static inline Floats with_sign(Floats v, Floats s) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return _mm256_or_ps(_mm256_andnot_ps(sign, v), _mm256_and_ps(sign, s));
}
static inline float sum(Floats v) {
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}
static inline float largest(Floats v) {
    const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps(two, two, 1)));
}

#else

#include "floats_portable.inl"

#endif

// The first n floats at p, n > 0, zeros behind them; all W where there are as many.
static inline Floats at(const float* p, int64_t n) { return n >= W ? load(p) : load_part(p, n); }
static inline void put(float* p, Floats v, int64_t n) {
    if (n >= W) {
        store(p, v);
    } else {
        store_part(p, v, n);
    }
}

static const float LANES[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};

// v in the first n lanes, `other` behind them; n may be negative, or more than there are.
static inline Floats before(int64_t n, Floats v, Floats other) {
    return n >= W ? v : where_less(load(LANES), all(static_cast<float>(n)), v, other);
}

// e^x to a relative 3e-7 for x from -87.3 to 88.7, the ends beyond. 2^n e^r with |r| <= ln(2) / 2, where
// (e^r - 1 - r) / r^2 is a polynomial of degree 4 fitted to a relative 3e-9 of e^r (Remez exchange).
static inline Floats exp(Floats x) {
    x = greater(all(-87.3f), lesser(all(88.7f), x));
    const Floats n = whole(mul(x, all(1.44269504f)));
    Floats r = fma(n, all(-0.693145752f), x);
    r = fma(n, all(-1.42860677e-6f), r);  // ln(2) in two parts, the first one exact times n
    Floats q = fma(all(0.0013814467f), r, all(0.0083687808f));
    q = fma(q, r, all(0.0416683927f));
    q = fma(q, r, all(0.1666651964f));
    q = fma(q, r, all(0.49999994f));
    return scaled_by_power(add(fma(mul(r, r), q, r), all(1.0f)), n);
}

// 1 / (1 + e^-x).
static inline Floats sigmoid(Floats x) {
    return div(all(1.0f), add(all(1.0f), exp(sub(all(0.0f), x))));
}

// To a relative 4e-7: below 0.625 by an odd polynomial fitted to a relative 4e-9, above by e^2x.
static inline Floats tanh(Floats x) {
    const Floats z = mul(x, x), far = size(x);
    Floats q = fma(all(-0.005717044696f), z, all(0.020650586113f));
    q = fma(q, z, all(-0.053743496537f));
    q = fma(q, z, all(0.133314907551f));
    q = fma(q, z, all(-0.333332836628f));
    const Floats near = fma(mul(x, z), q, x);
    const Floats tail = div(all(2.0f), add(exp(add(far, far)), all(1.0f)));
    return where_less(far, all(0.625f), near, with_sign(sub(all(1.0f), tail), x));
}

// The sum of a[i] b[i], in four strands so that no addition waits for the one before.
static inline float dot(const float* a, const float* b, int64_t n) {
    Floats s0 = all(0), s1 = all(0), s2 = all(0), s3 = all(0);
    int64_t i = 0;
    for (; i + 4 * W <= n; i += 4 * W) {
        s0 = fma(load(a + i), load(b + i), s0);
        s1 = fma(load(a + i + W), load(b + i + W), s1);
        s2 = fma(load(a + i + 2 * W), load(b + i + 2 * W), s2);
        s3 = fma(load(a + i + 3 * W), load(b + i + 3 * W), s3);
    }
    for (; i < n; i += W) {
        s0 = fma(at(a + i, n - i), at(b + i, n - i), s0);
    }
    return sum(add(add(s0, s1), add(s2, s3)));
}
