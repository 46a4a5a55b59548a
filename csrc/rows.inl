// What a decode step does between its products, a row at a time: norm, gate, attention of one query.
// Included once per instruction set, inside its namespace; see blocks.cpp.

// sum_k a[k] b[k], held in LANES partial sums.
static inline float inner(const float* a, const float* b, int64_t n) {
    alignas(64) float sums[LANES] = {};
    Vector sum[PARTS];
    for (int p = 0; p < PARTS; ++p) {
        sum[p] = load(sums + p * WIDTH);
    }
    int64_t k = 0;
    for (; k + LANES <= n; k += LANES) {
        for (int p = 0; p < PARTS; ++p) {
            sum[p] = multiply_add(load(a + k + p * WIDTH), load(b + k + p * WIDTH), sum[p]);
        }
    }
    for (int p = 0; p < PARTS; ++p) {
        store(sums + p * WIDTH, sum[p]);
    }
    for (int lane = 0; k < n; ++k, ++lane) {
        sums[lane] += a[k] * b[k];
    }
    return add_up(sums);
}

// x / sqrt(mean(x^2) + eps) * weight (Zhang & Sennrich 2019, equation 4). `out` may be `x`.
static void rms_norm(const float* x, const float* weight, int64_t n, float eps, float* out) {
    const float inverse = 1.0f / std::sqrt(inner(x, x, n) / static_cast<float>(n) + eps);
    for (int64_t k = 0; k < n; ++k) {
        out[k] = x[k] * inverse * weight[k];
    }
}

// e^x within three units in the last place, x first held to [-87, 88]: x = n ln 2 + r with |r| <= ln(2) / 2, and the
// series of e^r to the seventh power. No branch, so that loops over it become vector code.
static inline float exponential(float x) {
    const float held = std::min(std::max(x, -87.0f), 88.0f);
    const float shifted = held * 1.44269504f + 12582912.0f;  // 1.5 * 2^23: the sum is rounded to a whole number
    const float n = shifted - 12582912.0f;
    const float r = (held - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts, the first exact times n
    float p = 1.0f / 5040;
    p = p * r + 1.0f / 720;
    p = p * r + 1.0f / 120;
    p = p * r + 1.0f / 24;
    p = p * r + 1.0f / 6;
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    return p * from_bits((to_bits(shifted) - 0x4B400000u + 127u) << 23);
}

static inline float tangent(float x) { return 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f); }  // hyperbolic

// up = act(gate) * up with SiLU or GELU in its tanh form (Hendrycks & Gimpel 2016).
static void gate(const float* NM_RESTRICT gate, float* NM_RESTRICT up, int64_t n, bool gelu) {
    if (gelu) {
        for (int64_t k = 0; k < n; ++k) {
            const float g = gate[k], z = 0.7978845608f * (g + 0.044715f * g * g * g);  // sqrt(2 / pi)
            up[k] *= 0.5f * g * (1.0f + tangent(z));
        }
        return;
    }
    for (int64_t k = 0; k < n; ++k) {
        up[k] *= gate[k] / (1.0f + exponential(-gate[k]));
    }
}

static inline float largest(const float* x, int64_t n) {
    float top[LANES];
    std::copy(x, x + LANES, top);
    for (int64_t k = LANES; k < n; k += LANES) {
        for (int lane = 0; lane < LANES; ++lane) {
            top[lane] = x[k + lane] > top[lane] ? x[k + lane] : top[lane];
        }
    }
    return *std::max_element(top, top + LANES);
}

// scores -> e^(scores - largest), and the sum of those. n is a multiple of LANES.
static float exponentials(float* scores, int64_t n) {
    const float top = largest(scores, n);
    alignas(64) float sums[LANES] = {};
    for (int64_t k = 0; k < n; k += LANES) {
        for (int lane = 0; lane < LANES; ++lane) {
            scores[k + lane] = exponential(scores[k + lane] - top);
            sums[lane] += scores[k + lane];
        }
    }
    return add_up(sums);
}

constexpr int TURNS = 2;  // sums of every second token: one alone would wait for its last addition

// sum += weights[j] values[places[j]].
template <int N>
static NM_INLINE void add_value(const Query& query, int64_t j, int64_t k, Vector* sum) {
    alignas(64) float spread[LANES];
    std::fill(spread, spread + WIDTH, query.scores[j]);
    const Vector weight = load(spread);
    const float* value = query.values + query.places[j] * query.stride + k;
    for (int i = 0; i < N * PARTS; ++i) {
        sum[i] = multiply_add(weight, load(value + i * WIDTH), sum[i]);
    }
}

// out = sum_j weights[j] values[places[j]], N * LANES numbers of each from `k` on.
template <int N>
static void weighted(const Query& query, int64_t k, float by) {
    alignas(64) float sums[TURNS][N * LANES] = {};
    Vector sum[TURNS][N * PARTS];
    for (int turn = 0; turn < TURNS; ++turn) {
        for (int i = 0; i < N * PARTS; ++i) {
            sum[turn][i] = load(sums[turn] + i * WIDTH);
        }
    }
    int64_t j = 0;
    for (; j + TURNS <= query.n; j += TURNS) {
        for (int turn = 0; turn < TURNS; ++turn) {
            add_value<N>(query, j + turn, k, sum[turn]);
        }
    }
    for (; j < query.n; ++j) {
        add_value<N>(query, j, k, sum[0]);
    }
    for (int turn = 0; turn < TURNS; ++turn) {
        for (int i = 0; i < N * PARTS; ++i) {
            store(sums[turn] + i * WIDTH, sum[turn][i]);
        }
    }
    for (int i = 0; i < N * LANES; ++i) {
        query.out[k + i] = (sums[0][i] + sums[TURNS - 1][i]) * by;
    }
}

#if NM_VECTOR

// Keys that one query meets, WIDTH of them: their sums are added up together, in the order of `inner`.
struct Keys {
    const Query& query;
    int64_t first;

    NM_INLINE Sixteen sums(int i) const {
        const float *q = query.q, *key = query.keys + query.places[first + i] * query.stride;
        Sixteen sum;
        for (int p = 0; p < PARTS; ++p) {
            sum.at[p] = multiply(load(q + p * WIDTH), load(key + p * WIDTH));
        }
        for (int64_t k = LANES; k < query.width; k += LANES) {
            for (int p = 0; p < PARTS; ++p) {
                sum.at[p] = multiply_add(load(q + k + p * WIDTH), load(key + k + p * WIDTH), sum.at[p]);
            }
        }
        return sum;
    }
};

#endif

static void score(const Query& query) {
    int64_t j = 0;
#if NM_VECTOR
    if (query.width % LANES == 0) {
        for (; j + WIDTH <= query.n; j += WIDTH) {
            store(query.scores + j, multiply(add_up_rows(Keys{query, j}), all(query.scale)));
        }
    }
#endif
    for (; j < query.n; ++j) {
        query.scores[j] = inner(query.q, query.keys + query.places[j] * query.stride, query.width) * query.scale;
    }
}

static void attend(const Query& query) {
    const int64_t n = query.n, width = query.width, padded = (n + LANES - 1) / LANES * LANES;
    score(query);
    if (query.softcap > 0) {
        for (int64_t j = 0; j < n; ++j) {
            query.scores[j] = query.softcap * tangent(query.scores[j] / query.softcap);
        }
    }
    std::fill(query.scores + n, query.scores + padded, -std::numeric_limits<float>::max());
    const float by = 1.0f / exponentials(query.scores, padded);
    int64_t k = 0;
    for (; k + 4 * LANES <= width; k += 4 * LANES) {
        weighted<4>(query, k, by);
    }
    for (; k + LANES <= width; k += LANES) {
        weighted<1>(query, k, by);
    }
    for (; k < width; ++k) {
        float sum = 0;
        for (int64_t j = 0; j < n; ++j) {
            sum += query.scores[j] * query.values[query.places[j] * query.stride + k];
        }
        query.out[k] = sum * by;
    }
}
