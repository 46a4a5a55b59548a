// Unpacked blocks against a few rows of x in limbs. Included inside a namespace compiled for AVX-512-VNNI; see
// few_limbs.cpp.

#include "limbs_blocks.inl"

#include "few_groups.inl"

// The weights at hand of sixteen rows: weight = d (q - OFFSET) + m.
struct Unpacked {
    alignas(64) uint8_t q[FEW_DEPTH * ROWS];  // (depth / 4, rows, 4)
    alignas(64) float d[FEW_DEPTH / 16][ROWS];
    alignas(64) float m[FEW_DEPTH / 16][ROWS];
};

// Sixteen whole numbers of one limb, and their sum.
static NM_INLINE int32_t store_limb(__m512i numbers, int8_t* to) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_cvtepi32_epi8(numbers));
    return _mm512_reduce_add_epi32(numbers);
}

// Half a run of whole numbers as three of eight bits with their signs, the upper one 256 times the next.
static NM_INLINE void store_limbs(__m512i whole, int64_t half, RunOfRow& to) {
    const __m512i middle = _mm512_set1_epi32(128);
    const __m512i upper = _mm512_srai_epi32(_mm512_add_epi32(whole, middle), 8);
    const __m512i top = _mm512_srai_epi32(_mm512_add_epi32(upper, middle), 8);
    to.sums[half][0] = store_limb(top, to.limbs[0] + 16 * half);
    to.sums[half][1] = store_limb(_mm512_sub_epi32(upper, _mm512_slli_epi32(top, 8)), to.limbs[1] + 16 * half);
    to.sums[half][2] = store_limb(_mm512_sub_epi32(whole, _mm512_slli_epi32(upper, 8)), to.limbs[2] + 16 * half);
}

// For every 32 columns a run of each row. Infinities and NaN make its scale NaN, so that they are not lost on the way.
static void split(const float* x, int64_t m, int64_t cols, uint8_t* to) {
    constexpr float MOST = 127.0f * 65536.0f, LEAST = 1e-30f;
    auto* run = reinterpret_cast<RunOfRow*>(to);
    for (int64_t k = 0; k < cols; k += RUN) {
        for (int64_t i = 0; i < m; ++i, ++run) {
            const __m512 a = _mm512_loadu_ps(x + i * cols + k), b = _mm512_loadu_ps(x + i * cols + k + 16);
            const float largest = _mm512_reduce_max_ps(_mm512_max_ps(_mm512_abs_ps(a), _mm512_abs_ps(b)));
            const bool numbers = _mm512_cmp_ps_mask(_mm512_sub_ps(a, a), _mm512_sub_ps(b, b), _CMP_EQ_OQ) == 0xFFFF;
            const float by = numbers && largest >= LEAST ? MOST / largest : 0.0f;
            const __m512i first = _mm512_cvtps_epi32(_mm512_mul_ps(a, _mm512_set1_ps(by)));
            const __m512i second = _mm512_cvtps_epi32(_mm512_mul_ps(b, _mm512_set1_ps(by)));
            store_limbs(first, 0, *run);
            store_limbs(second, 1, *run);
            run->scale = !numbers ? std::numeric_limits<float>::quiet_NaN() : by > 0 ? largest / MOST : 0.0f;
            run->sum = run->scale * static_cast<float>(_mm512_reduce_add_epi32(_mm512_add_epi32(first, second)));
        }
    }
}

// The sums of `FOURS` fours of depths with one limb of a row, and `start`.
template <int64_t FOURS>
static NM_INLINE __m512i limb_product(const __m512i* q, const int8_t* limb, int32_t start) {
    __m512i sum = _mm512_set1_epi32(start);
#pragma GCC unroll 8
    for (int64_t j = 0; j < FOURS; ++j) {
        int32_t four;
        std::memcpy(&four, limb + 4 * j, sizeof four);
        sum = _mm512_dpbusd_epi32(sum, q[j], _mm512_set1_epi32(four));
    }
    return sum;
}

// What three limbs add up to, which no integer of 32 bits holds.
static NM_INLINE __m512 together(__m512i top, __m512i middle, __m512i low) {
    const __m512i rest = _mm512_add_epi32(_mm512_slli_epi32(middle, 8), low);
    return _mm512_fmadd_ps(_mm512_cvtepi32_ps(top), _mm512_set1_ps(65536.0f), _mm512_cvtepi32_ps(rest));
}

// sums (m, 16) += m rows of x, from the unpacked columns on, against `n` unpacked runs. M is m rounded up: what the
// rows behind m hold is nobody's.
template <class Type, int M>
static void meet_unpacked(const uint8_t* x, int64_t m, const Unpacked& unpacked, int64_t n, __m512* so_far) {
    constexpr int64_t FOURS = Type::UNDER_A_SCALE / 4, PER_RUN = RUN / Type::UNDER_A_SCALE;
    __m512 sums[M];
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
        sums[i] = so_far[i];
    }
    for (int64_t run = 0; run < n; ++run) {
        const int64_t half = run % PER_RUN;
        const auto* rows = reinterpret_cast<const RunOfRow*>(x) + run / PER_RUN * m;
        const __m512 d = _mm512_load_ps(unpacked.d[run]), min = _mm512_load_ps(unpacked.m[run]);
        __m512i q[FOURS];
#pragma GCC unroll 8
        for (int64_t j = 0; j < FOURS; ++j) {
            q[j] = _mm512_load_si512(unpacked.q + (run * FOURS + j) * 4 * ROWS);
        }
#pragma GCC unroll 16
        for (int i = 0; i < M; ++i) {
            const RunOfRow& row = rows[i < m ? i : 0];
            __m512i limb[3];
#pragma GCC unroll 3
            for (int l = 0; l < 3; ++l) {
                const int32_t added = row.sums[half][l] + (PER_RUN == 1 ? row.sums[1][l] : 0);
                limb[l] = limb_product<FOURS>(q, row.limbs[l] + 16 * half, -Type::OFFSET * added);
            }
            const __m512 scale = _mm512_mul_ps(d, _mm512_set1_ps(row.scale));
            sums[i] = _mm512_fmadd_ps(together(limb[0], limb[1], limb[2]), scale, sums[i]);
            if (Type::MIN) {
                sums[i] = _mm512_fmadd_ps(min, _mm512_set1_ps(row.sum), sums[i]);
            }
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
        so_far[i] = sums[i];
    }
}

template <class Type>
static void meet_all(const uint8_t* x, int64_t m, const Unpacked& unpacked, int64_t n, __m512* so_far) {
    const auto meet = m == 1   ? meet_unpacked<Type, 1>
                      : m < 3  ? meet_unpacked<Type, 2>
                      : m < 5  ? meet_unpacked<Type, 4>
                      : m < 9  ? meet_unpacked<Type, 8>
                      : m < 13 ? meet_unpacked<Type, 12>
                               : meet_unpacked<Type, 16>;
    meet(x, m, unpacked, n, so_far);
}

template <class Type>
static NM_INLINE void groups_product(const Product& product, const Groups& groups, Ahead& ahead, Unpacked& unpacked,
                                     __m512 (*sums)[MAX_ROWS]) {
    const Bytes<4 * ROWS, ROWS, false> out = {unpacked.q, unpacked.d[0], unpacked.m[0]};
    const uint8_t* x = product.split + groups.k / RUN * size_of_run(product.m);
    for (int64_t g = 0; g < groups.count(); ++g) {
        const int64_t row = groups.row(product, g);
        if (product.soon != nullptr) {
            product.soon->pass(ROWS * groups.n);
        }
        ahead.pass(groups.n * ROWS * Type::SIZE / Type::WEIGHTS);
        const uint8_t* in = product.weights + row * product.row_stride + groups.k / Type::WEIGHTS * Type::SIZE;
        unpack_rows<Type>({in, product.row_stride}, groups.n, out);
        meet_all<Type>(x, product.m, unpacked, groups.n / Type::UNDER_A_SCALE, sums[g]);
    }
}

template <class Type>
static void product_of_few(const Product& product, int64_t begin, int64_t end) {
    alignas(64) Unpacked unpacked;
    alignas(64) __m512 sums[MOST_GROUPS][MAX_ROWS];
    for (int64_t r = begin; r < end; r += MOST_GROUPS * ROWS) {
        Groups groups = {r, std::min(r + MOST_GROUPS * ROWS, end), 0, 0};
        const uint8_t* later = weights_later(product, r);
        Ahead ahead = {later, later};
        std::memset(sums, 0, sizeof sums);
        for (; groups.k < product.cols; groups.k += groups.n) {
            groups.n = std::min(FEW_DEPTH, product.cols - groups.k);
            groups_product<Type>(product, groups, ahead, unpacked, sums);
        }
        for (int64_t g = 0; g < groups.count(); ++g) {
            give(product, groups.row(product, g), r + g * ROWS, groups.end, sums[g], 1.0f);
        }
    }
}

using ProductOfFew = void (*)(const Product&, int64_t begin, int64_t end);

// In the order of TYPES in blocks.cpp; null: not here.
static const ProductOfFew products[] = {
    nullptr,
    nullptr,
    nullptr,
    product_of_few<LimbsQ4_0>,
    product_of_few<LimbsQ4_1>,
    product_of_few<LimbsQ5_0>,
    product_of_few<LimbsQ5_1>,
    product_of_few<LimbsQ8_0>,
    product_of_few<LimbsIQ4_NL>,
    nullptr,
    nullptr,
    product_of_few<LimbsQ4_K>,
    product_of_few<LimbsQ5_K>,
    product_of_few<LimbsQ6_K>,
    nullptr,
};
