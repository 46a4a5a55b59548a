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

constexpr int64_t AT_ONCE = 16;  // blocks whose scales are read together, where that is faster

// A block type: how many bytes hold how many weights. `ready` is told of the next n <= AT_ONCE blocks; then `block`
// gives the weights of the one at `in`, the one number `at` among those, to `put`, sixteen at a time.
template <int64_t Size, int64_t Weights>
struct Blocks {
    static constexpr int64_t SIZE = Size, WEIGHTS = Weights;
    void ready(const uint8_t*, int64_t) {}
};

template <class Type>
static void expand(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    Type type;
    for (int64_t i = 0; i < n; i += AT_ONCE) {
        const int64_t some = std::min(AT_ONCE, n - i);
        type.ready(in, some);
        for (int64_t at = 0; at < some; ++at, in += Type::SIZE, out += Type::WEIGHTS) {
            type.block(in, at, out);
        }
    }
}

// The 16 levels of the IQ4 types.
static const int8_t levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};

static void expand_f32(const uint8_t* in, int64_t n, float* NM_RESTRICT out) {
    if (n == 0) {
        return;  // an empty matrix has no address, and memcpy wants one
    }
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

struct Q4_0 : Blocks<18, 32> {
    template <class Out>
    NM_INLINE void block(const uint8_t* in, int64_t, Out& out) const {
        const float d = half_at(in);
        scale(minus(nibbles(in + 2), 8), d, d, 0, out);
    }
};

struct Q4_1 : Blocks<20, 32> {
    template <class Out>
    NM_INLINE void block(const uint8_t* in, int64_t, Out& out) const {
        const float d = half_at(in), m = half_at(in + 2);
        scale_add(nibbles(in + 4), d, d, m, m, 0, out);
    }
};

struct Q5_0 : Blocks<22, 32> {
    template <class Out>
    NM_INLINE void block(const uint8_t* in, int64_t, Out& out) const {
        const float d = half_at(in);
        scale(minus(joined(nibbles(in + 6), small_from_bits(load32(in + 2)), 4), 16), d, d, 0, out);
    }
};

struct Q5_1 : Blocks<24, 32> {
    template <class Out>
    NM_INLINE void block(const uint8_t* in, int64_t, Out& out) const {
        const float d = half_at(in), m = half_at(in + 2);
        scale_add(joined(nibbles(in + 8), small_from_bits(load32(in + 4)), 4), d, d, m, m, 0, out);
    }
};

struct Q8_0 : Blocks<34, 32> {
    template <class Out>
    NM_INLINE void block(const uint8_t* in, int64_t, Out& out) const {
        const float d = half_at(in);
        scale(small_at(in + 2), d, d, 0, out);
    }
};

struct IQ4_NL : Blocks<18, 32> {
    template <class Out>
    NM_INLINE void block(const uint8_t* in, int64_t, Out& out) const {
        const float d = half_at(in);
        scale(looked_up(nibbles(in + 2), levels), d, d, 0, out);
    }
};

#endif
