// Four floats in plain C++, for processors without a version of their own; see floats.inl.

constexpr int64_t W = 4;

struct Floats {
    float lane[W];
};

#define NM_LANES(expression)            \
    Floats out;                         \
    for (int i = 0; i < W; ++i) {       \
        out.lane[i] = expression;       \
    }                                   \
    return out

static inline Floats load(const float* p) { NM_LANES(p[i]); }
static inline Floats load_part(const float* p, int64_t n) { NM_LANES(i < n ? p[i] : 0.0f); }
static inline void store_part(float* p, Floats v, int64_t n) {
    for (int64_t i = 0; i < n && i < W; ++i) {
        p[i] = v.lane[i];
    }
}
static inline void store(float* p, Floats v) { store_part(p, v, W); }
static inline Floats all(float x) { NM_LANES(x); }
static inline Floats add(Floats a, Floats b) { NM_LANES(a.lane[i] + b.lane[i]); }
static inline Floats sub(Floats a, Floats b) { NM_LANES(a.lane[i] - b.lane[i]); }
static inline Floats mul(Floats a, Floats b) { NM_LANES(a.lane[i] * b.lane[i]); }
static inline Floats div(Floats a, Floats b) { NM_LANES(a.lane[i] / b.lane[i]); }
static inline Floats fma(Floats a, Floats b, Floats c) { NM_LANES(a.lane[i] * b.lane[i] + c.lane[i]); }
static inline Floats root(Floats v) { NM_LANES(sqrtf(v.lane[i])); }
static inline Floats lesser(Floats a, Floats b) { NM_LANES(a.lane[i] < b.lane[i] ? a.lane[i] : b.lane[i]); }
static inline Floats greater(Floats a, Floats b) { NM_LANES(a.lane[i] > b.lane[i] ? a.lane[i] : b.lane[i]); }
// To the nearest, halves to even: exact for the sizes that occur, below 2^22.
static inline Floats whole(Floats v) {
    const float big = 12582912.0f;  // 1.5 * 2^23
    NM_LANES((v.lane[i] + big) - big);
}
static inline float power_of_two(int n) {
    union {
        uint32_t bits;
        float value;
    } out = {static_cast<uint32_t>(n + 127) << 23};
    return out.value;
}
static inline Floats scaled_by_power(Floats v, Floats n) {
    Floats out;
    for (int i = 0; i < W; ++i) {
        const int power = n.lane[i] == n.lane[i] ? static_cast<int>(n.lane[i]) : 0, half = power >> 1;
        out.lane[i] = v.lane[i] * power_of_two(half) * power_of_two(power - half);
    }
    return out;
}
static inline Floats where_less(Floats x, Floats y, Floats a, Floats b) {
    NM_LANES(x.lane[i] < y.lane[i] ? a.lane[i] : b.lane[i]);
}
static inline Floats size(Floats v) { NM_LANES(v.lane[i] < 0 ? -v.lane[i] : v.lane[i]); }
static inline Floats with_sign(Floats v, Floats s) {
    NM_LANES((v.lane[i] < 0) == (s.lane[i] < 0) ? v.lane[i] : -v.lane[i]);
}
static inline float sum(Floats v) { return (v.lane[0] + v.lane[2]) + (v.lane[1] + v.lane[3]); }
static inline float largest(Floats v) {
    const Floats other = {{v.lane[1], v.lane[0], v.lane[3], v.lane[2]}};
    const Floats pairs = greater(v, other);
    return pairs.lane[0] > pairs.lane[2] ? pairs.lane[0] : pairs.lane[2];
}

#undef NM_LANES
