// Limbs of x against unpacked blocks. Included inside a namespace compiled for AVX-512-VNNI; see limbs.cpp.

#include "limbs_rows.inl"

#include "limbs_blocks.inl"

constexpr int64_t MOST_DEPTH = 576;           // weights of each output that are unpacked together
constexpr int64_t APART = 4 * PANEL_64;       // bytes from one four of depths to the next
constexpr int64_t TILE_OF_ROWS = 3;           // rows of x whose sums are in registers, whole and scaled
constexpr int64_t VECTORS = PANEL_64 / ROWS;  // of outputs

// A panel of outputs: weight = d q + m. In `starts` is what integer sums begin with, since the bytes of x are too large.
struct Panel {
    alignas(64) uint8_t q[MOST_DEPTH * PANEL_64];  // (depth / 4, outputs, 4), signed
    alignas(64) float d[MOST_DEPTH / 16][PANEL_64];
    alignas(64) float m[MOST_DEPTH / 16][PANEL_64];
    alignas(64) int32_t starts[MOST_DEPTH / 16][PANEL_64];
};

// Where the outputs of a panel go in a row of y. The last sixteen rows of a matrix may begin among others' rows.
struct Outputs {
    int64_t first[VECTORS];
    __mmask16 some[VECTORS];

    explicit Outputs(const LimbsProduct& p, int64_t panel) {
        for (int64_t v = 0; v < VECTORS; ++v) {
            const int64_t wanted = panel * PANEL_64 + v * ROWS, row = std::min(wanted, p.rows - ROWS);
            first[v] = row;
            some[v] = wanted >= p.rows ? 0 : static_cast<__mmask16>(0xFFFF << (wanted - row));
        }
    }
};

// Weights [k, k + n) of a panel's outputs.
template <class Type>
static void unpack(const LimbsProduct& p, const Outputs& outputs, int64_t k, int64_t n, Panel& panel) {
    constexpr int64_t FOURS = Type::UNDER_A_SCALE / 4;
    const __m512i ones = _mm512_set1_epi8(1), too_large = _mm512_set1_epi32(-128);
    for (int64_t v = 0; v < VECTORS; ++v) {
        const uint8_t* in = p.weights + outputs.first[v] * p.row_stride + k / Type::WEIGHTS * Type::SIZE;
        const Bytes<APART, PANEL_64, true> out = {panel.q + v * ROWS * 4, panel.d[0] + v * ROWS, panel.m[0] + v * ROWS};
        unpack_rows<Type>({in, p.row_stride}, n, out);
        for (int64_t run = 0; run < n / Type::UNDER_A_SCALE; ++run) {
            const uint8_t* q = panel.q + run * FOURS * APART + v * ROWS * 4;
            __m512i sum = _mm512_setzero_si512();
            for (int64_t i = 0; i < FOURS; ++i) {
                sum = _mm512_dpbusd_epi32(sum, ones, _mm512_load_si512(q + i * APART));
            }
            _mm512_store_si512(panel.starts[run] + v * ROWS, _mm512_mullo_epi32(sum, too_large));
        }
    }
}

// What all rows need is read once: g++ 12 would read it from memory for each, which takes longer than the product.
template <class Vector>
static NM_INLINE Vector in_register(Vector value) {
    asm("" : "+v"(value));
    return value;
}

// sum += a four of depths of each row, against the same of all outputs.
template <int64_t FOURS>
static NM_INLINE void add_run(const uint8_t* q, const uint8_t* const* x, int64_t at, __m512i (*sum)[VECTORS]) {
#pragma GCC unroll 8
    for (int64_t i = 0; i < FOURS; ++i) {
        __m512i four[TILE_OF_ROWS];
#pragma GCC unroll 4
        for (int64_t r = 0; r < TILE_OF_ROWS; ++r) {
            int32_t bytes;
            std::memcpy(&bytes, x[r] + at + 4 * i, sizeof bytes);
            four[r] = _mm512_set1_epi32(bytes);
        }
#pragma GCC unroll 4
        for (int64_t v = 0; v < VECTORS; ++v) {
            const __m512i weights = in_register(_mm512_load_si512(q + i * APART + v * ROWS * 4));
#pragma GCC unroll 4
            for (int64_t r = 0; r < TILE_OF_ROWS; ++r) {
                sum[r][v] = _mm512_dpbusd_epi32(sum[r][v], four[r], weights);
            }
        }
    }
}

// A tile of rows of x from `row` on against `n` weights of a panel from depth k on. The rows behind the last one repeat it.
template <class Type, int PARTS>
static void meet(const LimbsProduct& p, const Outputs& outputs, const Panel& panel, int64_t row, int64_t last,
                 int64_t k, int64_t n) {
    constexpr int64_t FOURS = Type::UNDER_A_SCALE / 4, PER_RUN = RUN / Type::UNDER_A_SCALE;
    const uint8_t* x[TILE_OF_ROWS];
    const float *scales[TILE_OF_ROWS], *sums[TILE_OF_ROWS];
    __m512 y[TILE_OF_ROWS][VECTORS];
#pragma GCC unroll 4
    for (int64_t r = 0; r < TILE_OF_ROWS; ++r) {
        const int64_t number = std::min(row + r, last), run = number * p.limbs.runs + k / RUN;
        x[r] = p.limbs.bytes + number * p.cols + k;
        scales[r] = p.limbs.scales + run;
        sums[r] = p.limbs.sums + run;
#pragma GCC unroll 4
        for (int64_t v = 0; v < VECTORS; ++v) {
            const float* from = p.y + number * p.rows + outputs.first[v];
            y[r][v] = k == 0 ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(outputs.some[v], from);
        }
    }
    const int64_t low = p.m * p.cols;
    for (int64_t run = 0; run < n / Type::UNDER_A_SCALE; ++run) {
        const uint8_t* q = panel.q + run * FOURS * APART;
        __m512i whole[TILE_OF_ROWS][VECTORS];
#pragma GCC unroll 4
        for (int64_t v = 0; v < VECTORS; ++v) {
            const __m512i starts = in_register(_mm512_load_si512(panel.starts[run] + v * ROWS));
#pragma GCC unroll 4
            for (int64_t r = 0; r < TILE_OF_ROWS; ++r) {
                whole[r][v] = starts;
            }
        }
        add_run<FOURS>(q, x, run * Type::UNDER_A_SCALE, whole);
        if constexpr (PARTS == 2) {
#pragma GCC unroll 4
            for (int64_t r = 0; r < TILE_OF_ROWS; ++r) {
#pragma GCC unroll 4
                for (int64_t v = 0; v < VECTORS; ++v) {
                    whole[r][v] = _mm512_slli_epi32(whole[r][v], 8);
                }
            }
            asm volatile("" ::: "memory");  // or g++ 12 keeps weights for it in registers that the sums need
            add_run<FOURS>(q, x, low + run * Type::UNDER_A_SCALE, whole);
        }
#pragma GCC unroll 4
        for (int64_t v = 0; v < VECTORS; ++v) {
            const __m512 d = in_register(_mm512_load_ps(panel.d[run] + v * ROWS));
            const __m512 m = Type::MIN ? in_register(_mm512_load_ps(panel.m[run] + v * ROWS)) : d;
#pragma GCC unroll 4
            for (int64_t r = 0; r < TILE_OF_ROWS; ++r) {
                const __m512 scale = _mm512_mul_ps(d, _mm512_set1_ps(scales[r][run / PER_RUN]));
                y[r][v] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(whole[r][v]), scale, y[r][v]);
                if (Type::MIN) {
                    y[r][v] = _mm512_fmadd_ps(m, _mm512_set1_ps(sums[r][run / PER_RUN]), y[r][v]);
                }
            }
        }
    }
#pragma GCC unroll 4
    for (int64_t r = 0; r < TILE_OF_ROWS; ++r) {
        if (row + r <= last) {
#pragma GCC unroll 4
            for (int64_t v = 0; v < VECTORS; ++v) {
                _mm512_mask_storeu_ps(p.y + (row + r) * p.rows + outputs.first[v], outputs.some[v], y[r][v]);
            }
        }
    }
}

// Of the depth, equal pieces of whole blocks.
template <class Type>
static int64_t depth_at_once(int64_t cols) {
    constexpr int64_t MOST = MOST_DEPTH / Type::WEIGHTS;
    const int64_t blocks = cols / Type::WEIGHTS, pieces = (blocks + MOST - 1) / MOST;
    return (blocks + pieces - 1) / pieces * Type::WEIGHTS;
}

// Rows [begin, end) of y for one panel. What is unpacked stays near while all rows pass.
template <class Type, int PARTS>
static void panel_of(const LimbsProduct& p, int64_t number, int64_t begin, int64_t end) {
    static_assert(!Type::MIN || Type::UNDER_A_SCALE == RUN, "sums of x are those of whole runs");
    alignas(64) Panel panel;
    const Outputs outputs(p, number);
    const int64_t step = depth_at_once<Type>(p.cols);
    for (int64_t k = 0; k < p.cols; k += step) {
        const int64_t n = std::min(step, p.cols - k);
        unpack<Type>(p, outputs, k, n, panel);
        for (int64_t row = begin; row < end; row += TILE_OF_ROWS) {
            meet<Type, PARTS>(p, outputs, panel, row, end - 1, k, n);
        }
    }
}

using PanelOf = void (*)(const LimbsProduct& p, int64_t number, int64_t begin, int64_t end);

struct PanelsOf {
    PanelOf in_one, in_two;
};

template <class Type>
constexpr PanelsOf panels_of() {
    return {panel_of<Type, 1>, panel_of<Type, 2>};
}

// In the order of TYPES in blocks.cpp; null: not here.
static const PanelsOf panels[] = {
    {nullptr, nullptr},
    {nullptr, nullptr},
    {nullptr, nullptr},
    panels_of<LimbsQ4_0>(),
    panels_of<LimbsQ4_1>(),
    panels_of<LimbsQ5_0>(),
    panels_of<LimbsQ5_1>(),
    panels_of<LimbsQ8_0>(),
    panels_of<LimbsIQ4_NL>(),
    {nullptr, nullptr},
    {nullptr, nullptr},
    panels_of<LimbsQ4_K>(),
    panels_of<LimbsQ5_K>(),
    panels_of<LimbsQ6_K>(),
    {nullptr, nullptr},
};
