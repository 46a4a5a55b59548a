// Blocks of 32 weights and plain numbers. Twins: src/nomoat/formats/blocks32.py, which describes the layouts.
// Included once per instruction set, inside its namespace; see blocks.cpp.

static inline uint16_t load16(const uint8_t* at) {
    uint16_t value;  // the machine is little-endian; Python checks that
    std::memcpy(&value, at, sizeof value);
    return value;
}

static inline uint32_t load32(const uint8_t* at) {
    uint32_t value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

static inline float from_bits(uint32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

static inline uint32_t to_bits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    return bits;
}

// IEEE half to single.
static inline float half_at(const uint8_t* at) {
    const uint16_t bits = load16(at);
#if NM_VECTOR
    return _cvtsh_ss(bits);
#else
    const uint32_t sign = static_cast<uint32_t>(bits & 0x8000u) << 16;
    const uint32_t rest = static_cast<uint32_t>(bits & 0x7FFFu) << 13;
    const uint32_t normal = rest + 0x38000000u;  // the exponents differ by 127 - 15
    const uint32_t endless = rest | 0x70000000u;  // infinity and NaN
    // Subnormal: made the fraction of 2^-14 and that power taken away again, which is exact.
    const uint32_t subnormal = to_bits(from_bits(rest | 0x38800000u) - from_bits(0x38800000u));
    return from_bits(sign | (rest >= 0x0F800000u ? endless : rest >= 0x00800000u ? normal : subnormal));
#endif
}

// The 16 levels of the IQ4 types.
static const int8_t levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static void expand_f32(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    std::memcpy(out, in, static_cast<size_t>(n) * sizeof(float));
}

static void expand_f16(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    int64_t i = 0;
#if NM_VECTOR
    for (; i + 8 <= n; i += 8) {
        const __m128i halves = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + 2 * i));
        _mm256_storeu_ps(out + i, _mm256_cvtph_ps(halves));
    }
#endif
    for (; i < n; ++i) {
        out[i] = half_at(in + 2 * i);
    }
}

static void expand_bf16(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    for (int64_t i = 0; i < n; ++i) {
        out[i] = from_bits(static_cast<uint32_t>(load16(in + 2 * i)) << 16);
    }
}

#if NM_VECTOR != 512  // blocks512.inl has them for that

static void expand_q4_0(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    for (int64_t b = 0; b < n; ++b, in += 18, out += 32) {
        const float d = half_at(in);
        scale(minus(nibbles(in + 2), 8), d, d, out);
    }
}

static void expand_q4_1(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    for (int64_t b = 0; b < n; ++b, in += 20, out += 32) {
        const float d = half_at(in), m = half_at(in + 2);
        scale_add(nibbles(in + 4), d, d, m, m, out);
    }
}

static void expand_q5_0(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    for (int64_t b = 0; b < n; ++b, in += 22, out += 32) {
        const float d = half_at(in);
        scale(minus(joined(nibbles(in + 6), small_from_bits(load32(in + 2)), 4), 16), d, d, out);
    }
}

static void expand_q5_1(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    for (int64_t b = 0; b < n; ++b, in += 24, out += 32) {
        const float d = half_at(in), m = half_at(in + 2);
        scale_add(joined(nibbles(in + 8), small_from_bits(load32(in + 4)), 4), d, d, m, m, out);
    }
}

static void expand_q8_0(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    for (int64_t b = 0; b < n; ++b, in += 34, out += 32) {
        const float d = half_at(in);
        scale(small_at(in + 2), d, d, out);
    }
}

static void expand_iq4_nl(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    for (int64_t b = 0; b < n; ++b, in += 18, out += 32) {
        const float d = half_at(in);
        scale(looked_up(nibbles(in + 2), levels), d, d, out);
    }
}

#endif
