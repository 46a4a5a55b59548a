// Unpacked blocks against split rows of x on tiles. Included inside a namespace compiled for AMX; see few.cpp.

#include "tile_config.inl"

#include "few_groups.inl"

// Tiles 0 to 3 are products and 5 to 7 are x, all `rows` high; 4 is weights, `depth` of them.
struct TilesOf {
    TilesOf(int64_t rows, int64_t depth) {
        TileConfig config = {};
        config.palette = 1;
        for (int i = 0; i < 8; ++i) {
            const bool weights = i == 4, of_x = i > 4;
            config.row_bytes[i] = static_cast<uint16_t>(of_x ? 2 * depth : 64);
            config.rows[i] = static_cast<uint8_t>(weights ? depth / 2 : rows);
        }
        asm volatile("" ::"r"(&config) : "memory");  // g++ 12 thinks that only its first eight bytes are read
        _tile_loadconfig(&config);
    }
    ~TilesOf() { _tile_release(); }
};

constexpr float BEFOREHAND = 0x1p48f;  // what x is multiplied with, so that its smallest parts do not vanish

// 32 numbers of one row as three lines of bfloat16, in the order of the tiles' pairs.
static NM_INLINE void split_line(__m512 a, __m512 b, uint8_t* const* lines) {
    for (int limb = 0; limb < 3; ++limb) {
        const __m512i near = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a));
        _mm512_store_si512(lines[limb], _mm512_shufflehi_epi16(_mm512_shufflelo_epi16(near, 0xD8), 0xD8));
        const __m512i near_a = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(near)), 16);
        const __m512i near_b = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(near, 1)), 16);
        a = _mm512_sub_ps(a, _mm512_castsi512_ps(near_a));
        b = _mm512_sub_ps(b, _mm512_castsi512_ps(near_b));
    }
}

// For every 32 columns: the first limbs of all rows, the second ones, where a tile holds two limbs as many lines of
// zeros, the third ones, and the columns' sum in each row.
static void split(const float* x, int64_t m, int64_t cols, uint8_t* to) {
    const __m512 by = _mm512_set1_ps(BEFOREHAND);
    const int64_t limb = m * LINE_OF_X, third = (limbs_of(m) - 1) * limb;
    for (int64_t k = 0; k < cols; k += DEPTH, to += size_of_run(m)) {
        alignas(64) float sums[MAX_ROWS] = {};
        std::memset(to + 2 * limb, 0, static_cast<size_t>(limb));
        for (int64_t i = 0; i < m; ++i) {
            const __m512 a = _mm512_mul_ps(_mm512_loadu_ps(x + i * cols + k), by);
            const __m512 b = _mm512_mul_ps(_mm512_loadu_ps(x + i * cols + k + 16), by);
            sums[i] = _mm512_reduce_add_ps(_mm512_add_ps(a, b));
            uint8_t* const line = to + i * LINE_OF_X;
            uint8_t* const lines[3] = {line, line + limb, line + third};
            split_line(a, b, lines);
        }
        std::memcpy(to + limbs_of(m) * limb, sums, sizeof sums);
    }
}

constexpr int64_t IN_TURN = 4;  // products between one's tiles and its being read

// x (m, 32 or 16 columns) against one unpacked tile: the products of the first limbs and, (m, 16) each, of the others.
// A tile takes as long whatever its height, so up to eight rows go in with two of their limbs.
static NM_INLINE void meet_tile(const uint8_t* x, int64_t m, const uint16_t* weights, float* product) {
    const int64_t limb = m * LINE_OF_X;
    _tile_zero(0);
    _tile_loadd(4, weights, 64);
    _tile_loadd(5, x, LINE_OF_X);
    _tile_dpbf16ps(0, 5, 4);
    _tile_loadd(6, x + 2 * limb, LINE_OF_X);
    if (m <= MOST_IN_ONE) {
        _tile_dpbf16ps(0, 6, 4);
    } else {
        _tile_zero(1);
        _tile_loadd(7, x + limb, LINE_OF_X);
        _tile_dpbf16ps(1, 7, 4);
        _tile_dpbf16ps(1, 6, 4);
        _tile_stored(1, product + m * ROWS, 64);
    }
    _tile_stored(0, product, 64);
    asm volatile("" ::: "memory");  // g++ 12 does not know that tiles read and write memory
}

// sums += d product + m (sum of x), row by row.
template <bool Min, int M>
static NM_INLINE void add_scaled(const float* product, int64_t m, const float* d, const float* min, const float* of_x,
                                 __m512* sums) {
    const __m512 scale = _mm512_load_ps(d), below = Min ? _mm512_load_ps(min) : _mm512_setzero_ps();
    const float* rest = product + m * ROWS;
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
        const __m512 whole = _mm512_add_ps(_mm512_load_ps(product + i * ROWS), _mm512_load_ps(rest + i * ROWS));
        sums[i] = _mm512_fmadd_ps(scale, whole, sums[i]);
        if (Min) {
            sums[i] = _mm512_fmadd_ps(below, _mm512_set1_ps(of_x[i]), sums[i]);
        }
    }
}

// sums (m, 16) += m rows of x, from the unpacked columns on, against `n` unpacked tiles. M is m rounded up: what the
// rows behind m hold is nobody's.
template <class Type, int M>
static void meet_unpacked(const uint8_t* x, int64_t m, const Unpacked& unpacked, int64_t n, Ahead& ahead,
                          __m512* so_far) {
    constexpr int64_t PER_RUN = DEPTH / Type::UNDER_A_SCALE, NUMBERS = Type::UNDER_A_SCALE * ROWS;
    alignas(64) float products[IN_TURN][2 * MAX_ROWS * ROWS];
    __m512 sums[M];
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
        sums[i] = so_far[i];
    }
    const int64_t size = size_of_run(m), sums_at = limbs_of(m) * m * LINE_OF_X;
    for (int64_t u = 0; u < n + IN_TURN - 1; ++u) {
        if (u < n) {
            ahead.pass(NUMBERS * Type::SIZE / Type::WEIGHTS);
            meet_tile(x + u / PER_RUN * size + u % PER_RUN * 2 * Type::UNDER_A_SCALE, m, unpacked.q + u * NUMBERS,
                      products[u % IN_TURN]);
        }
        if (const int64_t done = u - (IN_TURN - 1); done >= 0) {
            const auto* of_x = reinterpret_cast<const float*>(x + done / PER_RUN * size + sums_at);
            add_scaled<Type::MIN, M>(products[done % IN_TURN], m, unpacked.d[done], unpacked.m[done], of_x, sums);
        }
    }
#pragma GCC unroll 16
    for (int i = 0; i < M; ++i) {
        so_far[i] = sums[i];
    }
}

template <class Type>
static void meet_all(const uint8_t* x, int64_t m, const Unpacked& unpacked, int64_t n, Ahead& ahead, __m512* so_far) {
    const auto meet = m == 1  ? meet_unpacked<Type, 1>
                      : m < 3 ? meet_unpacked<Type, 2>
                      : m < 5 ? meet_unpacked<Type, 4>
                      : m < 9 ? meet_unpacked<Type, 8>
                              : meet_unpacked<Type, 16>;
    meet(x, m, unpacked, n, ahead, so_far);
}

// The next `n` weights of sixteen rows.
template <class Type>
static NM_INLINE void unpack(SixteenRows rows, int64_t n, Unpacked& out) {
    if constexpr (Type::WEIGHTS == AT_ONCE_FEW) {
        (void)n;
        Type::whole(rows, out);
    } else {
        for (int64_t b = 0; b < n / Type::WEIGHTS; ++b, rows.in += Type::SIZE) {
            Type::block(rows, out.q + b * Type::WEIGHTS * ROWS, out.d[b], out.m[b]);
        }
    }
    asm volatile("" ::: "memory");
}

template <class Type>
static NM_INLINE void groups_product(const Product& product, const Groups& groups, Ahead& ahead, Unpacked& unpacked,
                                     __m512 (*sums)[MAX_ROWS]) {
    const uint8_t* x = product.split + groups.k / DEPTH * size_of_run(product.m);
    for (int64_t g = 0; g < groups.count(); ++g) {
        const int64_t row = groups.row(product, g);
        if (product.soon != nullptr) {
            product.soon->pass(ROWS * groups.n);
        }
        const uint8_t* in = product.weights + row * product.row_stride + groups.k / Type::WEIGHTS * Type::SIZE;
        unpack<Type>({in, product.row_stride}, groups.n, unpacked);
        meet_all<Type>(x, product.m, unpacked, groups.n / Type::UNDER_A_SCALE, ahead, sums[g]);
    }
}

template <class Type>
static void product_of_few(const Product& product, int64_t begin, int64_t end) {
    const TilesOf tiles(product.m <= MOST_IN_ONE ? 2 * product.m : product.m, Type::UNDER_A_SCALE);
    alignas(64) Unpacked unpacked;
    alignas(64) __m512 sums[MOST_GROUPS][MAX_ROWS];
    for (int64_t r = begin; r < end; r += MOST_GROUPS * ROWS) {
        Groups groups = {r, std::min(r + MOST_GROUPS * ROWS, end), 0, 0};
        const uint8_t* later = weights_later(product, r);
        Ahead ahead = {later, later};
        std::memset(sums, 0, sizeof sums);
        for (; groups.k < product.cols; groups.k += groups.n) {
            groups.n = std::min(AT_ONCE_FEW, product.cols - groups.k);
            groups_product<Type>(product, groups, ahead, unpacked, sums);
        }
        for (int64_t g = 0; g < groups.count(); ++g) {
            give(product, groups.row(product, g), r + g * ROWS, groups.end, sums[g], Type::COMMON / BEFOREHAND);
        }
    }
}

using ProductOfFew = void (*)(const Product&, int64_t begin, int64_t end);

// In the order of TYPES in blocks.cpp; null: not here.
static const ProductOfFew products[] = {
    nullptr,
    nullptr,
    nullptr,
    product_of_few<FewQ4_0>,
    product_of_few<FewQ4_1>,
    product_of_few<FewQ5_0>,
    product_of_few<FewQ5_1>,
    product_of_few<FewQ8_0>,
    product_of_few<FewIQ4_NL>,
    nullptr,
    nullptr,
    product_of_few<FewQ4_K>,
    product_of_few<FewQ5_K>,
    product_of_few<FewQ6_K>,
    nullptr,
};
