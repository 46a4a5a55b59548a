// How a product with a few rows of x goes through a matrix, sixteen rows of weights at a time. Included inside a
// namespace compiled for AVX-512; see few.cpp and few_limbs.cpp.

// Some groups of sixteen rows of weights, and which weights of them are next.
struct Groups {
    int64_t begin, end, k, n;

    int64_t count() const { return (end - begin + ROWS - 1) / ROWS; }
    // The last sixteen rows of a matrix may begin among others' rows.
    int64_t row(const Product& product, int64_t g) const {
        return std::min(begin + g * ROWS, product.rows - ROWS);
    }
};

// y[m, r] of the rows [begin, end) that are among the sixteen from `row` on.
static NM_INLINE void give(const Product& product, int64_t row, int64_t begin, int64_t end, const __m512* sums,
                           float by) {
    const int64_t skipped = std::max<int64_t>(0, begin - row), n = std::min(ROWS, end - row);
    const __mmask16 some = static_cast<__mmask16>((1u << n) - (1u << skipped));
    for (int64_t i = 0; i < product.m; ++i) {
        float* y = product.y + i * product.y_stride + row;
        const __m512 sum = _mm512_mul_ps(sums[i], _mm512_set1_ps(by));
        _mm512_mask_storeu_ps(y, some, product.add ? _mm512_add_ps(_mm512_maskz_loadu_ps(some, y), sum) : sum);
    }
}

constexpr int64_t MOST_GROUPS = 3;  // that meet some columns of x while those are in the first-level cache

// What is met two shares after row r: further on, or among the weights of the next product.
static inline const uint8_t* weights_later(const Product& product, int64_t r) {
    const int64_t row = r + 2 * MOST_GROUPS * ROWS;
    if (row < product.rows || product.next == nullptr) {
        return product.weights + std::min(row, product.rows) * product.row_stride;
    }
    return product.next + (row - product.rows) * product.row_stride;
}

// Weights that will be met two shares of work later: one share later may be another thread's present one.
struct Ahead {
    const uint8_t *at, *until;

    // Asks for as many bytes as were just used: a processor waits where it is asked for more than it can keep in mind.
    NM_INLINE void pass(int64_t bytes) {
        for (until += bytes; at < until; at += LINE) {
            NM_PREFETCH(at);
        }
    }
};
