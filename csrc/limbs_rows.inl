// Rows of floats as whole numbers in limbs of eight bits. Included inside a namespace compiled for AVX-512-VNNI; see
// limbs.cpp.

constexpr float LEAST = 1e-30f;  // a run below this counts as zero: what it is multiplied with must not overflow

// The largest size among 32 numbers, as bits: infinities and NaN are larger than any number.
static NM_INLINE int32_t largest_of(__m512 a, __m512 b) {
    const __m512i size = _mm512_set1_epi32(0x7FFFFFFF);
    return _mm512_reduce_max_epi32(_mm512_max_epi32(_mm512_and_si512(_mm512_castps_si512(a), size),
                                                    _mm512_and_si512(_mm512_castps_si512(b), size)));
}

// As bytes 128 too large.
static NM_INLINE void store_limb(__m512i numbers, uint8_t* to) {
    const __m128i bytes = _mm512_cvtepi32_epi8(numbers);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm_xor_si128(bytes, _mm_set1_epi8(static_cast<char>(0x80))));
}

// Sixteen whole numbers of eight bits, or of sixteen: their upper and lower byte.
template <int PARTS>
static NM_INLINE void store_limbs(__m512i whole, uint8_t* high, uint8_t* low) {
    if constexpr (PARTS == 1) {
        store_limb(whole, high);
        (void)low;
    } else {
        store_limb(_mm512_srai_epi32(whole, 8), high);
        _mm_storeu_si128(reinterpret_cast<__m128i*>(low), _mm512_cvtepi32_epi8(whole));
    }
}

// One row. A run that holds infinities or NaN gets the scale NaN, so that they are not lost on the way.
template <int PARTS>
static void to_limbs(const LimbsProduct& p, int64_t row) {
    constexpr float MOST = PARTS == 1 ? 127.0f : 32767.0f;
    const float* x = p.x + row * p.cols;
    uint8_t* high = p.limbs.bytes + row * p.cols;
    uint8_t* low = high + (PARTS - 1) * p.m * p.cols;
    for (int64_t run = 0; run < p.limbs.runs; ++run, x += RUN, high += RUN, low += RUN) {
        const __m512 a = _mm512_loadu_ps(x), b = _mm512_loadu_ps(x + 16);
        const int32_t bits = largest_of(a, b);
        float largest;
        std::memcpy(&largest, &bits, sizeof largest);
        float scale = largest / MOST, by = MOST / largest;
        if (bits >= 0x7F800000) {
            scale = std::numeric_limits<float>::quiet_NaN();
            by = 0.0f;
        } else if (largest < LEAST) {
            scale = by = 0.0f;
        }
        const __m512i first = _mm512_cvtps_epi32(_mm512_mul_ps(a, _mm512_set1_ps(by)));
        const __m512i second = _mm512_cvtps_epi32(_mm512_mul_ps(b, _mm512_set1_ps(by)));
        store_limbs<PARTS>(first, high, low);
        store_limbs<PARTS>(second, high + 16, low + 16);
        p.limbs.scales[row * p.limbs.runs + run] = scale;
        const int32_t sum = _mm512_reduce_add_epi32(_mm512_add_epi32(first, second));
        p.limbs.sums[row * p.limbs.runs + run] = scale * static_cast<float>(sum);
    }
}
