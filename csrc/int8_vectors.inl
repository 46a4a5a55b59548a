// The vocabulary of the int8 kernels: a few integers (Whole) or floats (Real) at a time, LANES of them.
// Included once per instruction set, inside its namespace; see int8.h. NM_INT8 says which: 1024 AMX tiles beside
// AVX-512, 512 AVX-512 with VNNI, 257 AVX2 with VNNI, 256 AVX2, 128 NEON with dot products, 0 any machine.
//
// dot(sum, a, b): sum[j] += a . b[j] over runs of four bytes, where a holds the same four activations in every lane.
// It is exact. Where OFFSET is true the machine multiplies unsigned by signed bytes, so the activations are taken as
// stored, 128 too large, and the sum has to start at -128 times the sum of the weights.

#if NM_INT8 >= 512

constexpr int LANES = 16, TILE_ROWS = NM_INT8 == 1024 ? 32 : 6;
using Whole = __m512i;
using Real = __m512;

static inline Whole load_whole(const void* at) { return _mm512_loadu_si512(at); }
static inline Real load_real(const float* at) { return _mm512_loadu_ps(at); }
static inline void store_real(float* at, Real value) { _mm512_storeu_ps(at, value); }
static inline Real all(float value) { return _mm512_set1_ps(value); }
static inline Real times(Real a, Real b) { return _mm512_mul_ps(a, b); }
static inline Real multiply_add(Real a, Real b, Real c) { return _mm512_fmadd_ps(a, b, c); }
static inline Real real(Whole value) { return _mm512_cvtepi32_ps(value); }

#elif NM_INT8 == 257 || NM_INT8 == 256

constexpr int LANES = 8, TILE_ROWS = NM_INT8 == 257 ? 3 : 2, TILE_VECTORS = 4;
constexpr bool OFFSET = NM_INT8 == 257;
using Whole = __m256i;
using Real = __m256;

static inline Whole load_whole(const void* at) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }
static inline Whole zero_whole() { return _mm256_setzero_si256(); }
static inline Real load_real(const float* at) { return _mm256_loadu_ps(at); }
static inline void store_real(float* at, Real value) { _mm256_storeu_ps(at, value); }
static inline Real all(float value) { return _mm256_set1_ps(value); }
static inline Real times(Real a, Real b) { return _mm256_mul_ps(a, b); }
static inline Real multiply_add(Real a, Real b, Real c) { return _mm256_fmadd_ps(a, b, c); }
static inline Real real(Whole value) { return _mm256_cvtepi32_ps(value); }

#if NM_INT8 == 257

using Activations = __m256i;
static inline Activations activations(const uint8_t* at) {
    int32_t four;
    std::memcpy(&four, at, sizeof four);
    return _mm256_set1_epi32(four);
}
static inline void dot(Whole& sum, Activations a, Whole b) {
    asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b));
}

#else

// vpmaddubsw saturates when a pair of products passes 32,767. With the sign moved from the activation to the weight
// a product is at most 127 * 127, and a pair of them fits.
struct Activations {
    __m256i size, sign;
};
static inline Activations activations(const uint8_t* at) {
    int32_t four;
    std::memcpy(&four, at, sizeof four);
    const __m256i value = _mm256_set1_epi32(four ^ static_cast<int32_t>(0x80808080u));
    return {_mm256_abs_epi8(value), value};
}
static inline void dot(Whole& sum, const Activations& a, Whole b) {
    const __m256i pairs = _mm256_maddubs_epi16(a.size, _mm256_sign_epi8(b, a.sign));
    sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

#endif

#elif NM_INT8 == 128

constexpr int LANES = 4, TILE_ROWS = 4, TILE_VECTORS = 4;
constexpr bool OFFSET = false;
using Whole = int32x4_t;
using Real = float32x4_t;
using Activations = int8x16_t;

static inline Whole load_whole(const void* at) { return vld1q_s32(static_cast<const int32_t*>(at)); }
static inline Whole zero_whole() { return vdupq_n_s32(0); }
static inline Real load_real(const float* at) { return vld1q_f32(at); }
static inline void store_real(float* at, Real value) { vst1q_f32(at, value); }
static inline Real all(float value) { return vdupq_n_f32(value); }
static inline Real times(Real a, Real b) { return vmulq_f32(a, b); }
static inline Real multiply_add(Real a, Real b, Real c) { return vfmaq_f32(c, a, b); }
static inline Real real(Whole value) { return vcvtq_f32_s32(value); }
static inline Activations activations(const uint8_t* at) {
    uint32_t four;
    std::memcpy(&four, at, sizeof four);
    return vreinterpretq_s8_u32(vdupq_n_u32(four ^ 0x80808080u));
}
static inline void dot(Whole& sum, Activations a, Whole b) { sum = vdotq_s32(sum, vreinterpretq_s8_s32(b), a); }

#else

constexpr int LANES = 16, TILE_ROWS = 1, TILE_VECTORS = 1;
constexpr bool OFFSET = false;
struct Whole {
    int32_t at[16];
};
struct Real {
    float at[16];
};
struct Activations {
    int32_t at[4];
};

static inline Whole load_whole(const void* at) {
    Whole value;
    std::memcpy(&value, at, sizeof value);
    return value;
}
static inline Whole zero_whole() { return {}; }
static inline Real load_real(const float* at) {
    Real value;
    std::memcpy(&value, at, sizeof value);
    return value;
}
static inline void store_real(float* at, const Real& value) { std::memcpy(at, &value, sizeof value); }
static inline Real all(float value) {
    Real result;
    for (float& lane : result.at) {
        lane = value;
    }
    return result;
}
static inline Real times(const Real& a, const Real& b) {
    Real result;
    for (int j = 0; j < LANES; ++j) {
        result.at[j] = a.at[j] * b.at[j];
    }
    return result;
}
static inline Real multiply_add(const Real& a, const Real& b, const Real& c) {
    Real result;
    for (int j = 0; j < LANES; ++j) {
        result.at[j] = a.at[j] * b.at[j] + c.at[j];
    }
    return result;
}
static inline Real real(const Whole& value) {
    Real result;
    for (int j = 0; j < LANES; ++j) {
        result.at[j] = static_cast<float>(value.at[j]);
    }
    return result;
}
static inline Activations activations(const uint8_t* at) {
    return {{at[0] - 128, at[1] - 128, at[2] - 128, at[3] - 128}};
}
static inline void dot(Whole& sum, const Activations& a, const Whole& b) {
    int8_t bytes[64];
    std::memcpy(bytes, &b, sizeof bytes);
    for (int j = 0; j < LANES; ++j) {
        sum.at[j] += a.at[0] * bytes[4 * j] + a.at[1] * bytes[4 * j + 1] + a.at[2] * bytes[4 * j + 2] +
                     a.at[3] * bytes[4 * j + 3];
    }
}

#endif
