// Products with float matrices of few columns, as an adapter's lora_B (out, rank) is: a row is over before a sum of its
// own could be carried further, so the sums of several rows are added up together.
// Included once per instruction set, inside its namespace; see blocks.cpp. Added up in the order of add_up in dot.inl.

#if NM_VECTOR

constexpr int64_t NARROW = NM_VECTOR == 512 ? 64 : 32;  // columns

#if NM_VECTOR == 512
using Mask = __mmask16;
static inline Mask first(int64_t n) { return static_cast<Mask>(n < LANES ? (1u << n) - 1 : 0xFFFFu); }
static NM_INLINE Sixteen load_first(const float* at, Mask mask) { return {_mm512_maskz_loadu_ps(mask, at)}; }
#else
struct Mask {
    __m256i at[2];
};
static inline Mask first(int64_t n) {
    const __m256i count = _mm256_set1_epi32(static_cast<int>(std::min<int64_t>(n, LANES)));
    const __m256i low = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), high = _mm256_add_epi32(low, _mm256_set1_epi32(8));
    return {{_mm256_cmpgt_epi32(count, low), _mm256_cmpgt_epi32(count, high)}};
}
static NM_INLINE Sixteen load_first(const float* at, const Mask& mask) {
    return {{_mm256_maskload_ps(at, mask.at[0]), _mm256_maskload_ps(at + 8, mask.at[1])}};
}
#endif

// Rows of floats, up to WIDTH, that meet one row of x; the number `last` stands for those behind it.
struct NarrowRows {
    const uint8_t* w;
    int64_t apart, cols;
    const float* x;
    int last;

    // x[k] w[i, k], added up by k mod LANES.
    NM_INLINE Sixteen sums(int i) const {
        const float* row = reinterpret_cast<const float*>(w + std::min(i, last) * apart);
        const Mask some = first(cols);
        const Sixteen a = load_first(row, some), b = load_first(x, some);
        Sixteen sum;
        for (int p = 0; p < PARTS; ++p) {
            sum.at[p] = multiply(a.at[p], b.at[p]);
        }
        for (int64_t k = LANES; k < cols; k += LANES) {
            const Mask rest = first(cols - k);
            const Sixteen weight = load_first(row + k, rest), value = load_first(x + k, rest);
            for (int p = 0; p < PARTS; ++p) {
                sum.at[p] = multiply_add(weight.at[p], value.at[p], sum.at[p]);
            }
        }
        return sum;
    }
};

#if NM_VECTOR == 512

// What `Low` chooses from a and b plus what `High` chooses, by floats or by fours: 0x44 and 0xEE are the first and the
// last two of each, 0x88 and 0xDD the even and the odd ones.
template <int Low, int High>
static NM_INLINE Vector fold(Vector a, Vector b) {
    return add(_mm512_shuffle_ps(a, b, Low), _mm512_shuffle_ps(a, b, High));
}

template <int Low, int High>
static NM_INLINE Vector fold_fours(Vector a, Vector b) {
    return add(_mm512_shuffle_f32x4(a, b, Low), _mm512_shuffle_f32x4(a, b, High));
}

// Four sums each of rows i, i + 4, i + 8 and i + 12.
template <class Rows>
static NM_INLINE Vector fours(const Rows& rows, int i) {
    const Vector a = fold_fours<0x44, 0xEE>(rows.sums(i).at[0], rows.sums(i + 4).at[0]);
    const Vector b = fold_fours<0x44, 0xEE>(rows.sums(i + 8).at[0], rows.sums(i + 12).at[0]);
    return fold_fours<0x88, 0xDD>(a, b);
}

#else

template <int Low, int High>
static NM_INLINE Vector fold(Vector a, Vector b) {
    return add(_mm256_shuffle_ps(a, b, Low), _mm256_shuffle_ps(a, b, High));
}

// Four sums each of rows i and i + 4.
template <class Rows>
static NM_INLINE Vector fours(const Rows& rows, int i) {
    const Sixteen first = rows.sums(i), second = rows.sums(i + 4);
    const Vector a = add(first.at[0], first.at[1]), b = add(second.at[0], second.at[1]);
    return add(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

#endif

// sum_k x[k] w[i, k] of WIDTH rows, in their order.
template <class Rows>
static NM_INLINE Vector add_up_rows(const Rows& rows) {
    const Vector a = fold<0x44, 0xEE>(fours(rows, 0), fours(rows, 1));
    const Vector b = fold<0x44, 0xEE>(fours(rows, 2), fours(rows, 3));
    return fold<0x88, 0xDD>(a, b);
}

// y[m, r] for weight rows [begin, end) of a matrix of floats with up to NARROW columns.
static void narrow(const Product& product, int64_t begin, int64_t end) {
    alignas(64) float sums[WIDTH];
    for (int64_t r = begin; r < end; r += WIDTH) {
        const int64_t n = std::min<int64_t>(WIDTH, end - r), apart = product.row_stride;
        const uint8_t* w = product.weights + r * apart;
        for (int64_t m = 0; m < product.m; ++m) {
            const float* x = product.x + m * product.cols;
            float* y = product.y + m * product.y_stride + r;
            if (n == WIDTH) {
                const Vector sum = add_up_rows(NarrowRows{w, apart, product.cols, x, WIDTH - 1});
                store(y, product.add ? add(load(y), sum) : sum);
                continue;
            }
            store(sums, add_up_rows(NarrowRows{w, apart, product.cols, x, static_cast<int>(n - 1)}));
            for (int64_t i = 0; i < n; ++i) {
                y[i] = product.add ? y[i] + sums[i] : sums[i];
            }
        }
    }
}

#endif
