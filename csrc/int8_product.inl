// Products of quantized rows with a packed weight. Twin: src/nomoat/kernels/int8_reference.py.
// Included once per instruction set, inside its namespace; see int8.h for the layout of the weight.

#if NM_INT8 == 1024

// sum_group is in int8_tiles.inl.

#elif NM_INT8 == 512

// The integer sums of one group: TILE_ROWS rows against 64 outputs, `n` depths. All in assembly because g++ 12 spills
// some of the 24 sums to the stack at every step, with the intrinsic and with single instructions in "asm" alike.
#define NM_ROW(address, s0, s1, s2, s3)             \
    "vpbroadcastd (" address ", %[k]), %%zmm28\n\t" \
    "vpdpbusd %%zmm24, %%zmm28, %%zmm" s0 "\n\t"    \
    "vpdpbusd %%zmm25, %%zmm28, %%zmm" s1 "\n\t"    \
    "vpdpbusd %%zmm26, %%zmm28, %%zmm" s2 "\n\t"    \
    "vpdpbusd %%zmm27, %%zmm28, %%zmm" s3 "\n\t"
#define NM_COPY(s0, s1, s2, s3)              \
    "vmovdqa64 %%zmm0, %%zmm" s0 "\n\t"      \
    "vmovdqa64 %%zmm1, %%zmm" s1 "\n\t"      \
    "vmovdqa64 %%zmm2, %%zmm" s2 "\n\t"      \
    "vmovdqa64 %%zmm3, %%zmm" s3 "\n\t"
#define NM_STORE(at, s0, s1, s2, s3)                     \
    "vmovdqa64 %%zmm" s0 ", " at " + 0(%[out])\n\t"      \
    "vmovdqa64 %%zmm" s1 ", " at " + 64(%[out])\n\t"     \
    "vmovdqa64 %%zmm" s2 ", " at " + 128(%[out])\n\t"    \
    "vmovdqa64 %%zmm" s3 ", " at " + 192(%[out])\n\t"

static void sum_group(const uint8_t* const* rows, const int8_t* weights, const int32_t* starts, int64_t n,
                      int32_t* sums) {
    int64_t k = -n;  // counts up to zero, from pointers to the end
    asm volatile(
        "vmovdqu64 0(%[starts]), %%zmm0\n\t"
        "vmovdqu64 64(%[starts]), %%zmm1\n\t"
        "vmovdqu64 128(%[starts]), %%zmm2\n\t"
        "vmovdqu64 192(%[starts]), %%zmm3\n\t"  //
        NM_COPY("4", "5", "6", "7") NM_COPY("8", "9", "10", "11") NM_COPY("12", "13", "14", "15")
        NM_COPY("16", "17", "18", "19") NM_COPY("20", "21", "22", "23")
        ".p2align 5\n"
        "1:\n\t"
        "vmovdqu64 0(%[weights]), %%zmm24\n\t"
        "vmovdqu64 64(%[weights]), %%zmm25\n\t"
        "vmovdqu64 128(%[weights]), %%zmm26\n\t"
        "vmovdqu64 192(%[weights]), %%zmm27\n\t"  //
        NM_ROW("%[r0]", "0", "1", "2", "3") NM_ROW("%[r1]", "4", "5", "6", "7")
        NM_ROW("%[r2]", "8", "9", "10", "11") NM_ROW("%[r3]", "12", "13", "14", "15")
        NM_ROW("%[r4]", "16", "17", "18", "19") NM_ROW("%[r5]", "20", "21", "22", "23")
        "addq $256, %[weights]\n\t"
        "addq $4, %[k]\n\t"
        "jnz 1b\n\t"  //
        NM_STORE("0", "0", "1", "2", "3") NM_STORE("256", "4", "5", "6", "7") NM_STORE("512", "8", "9", "10", "11")
        NM_STORE("768", "12", "13", "14", "15") NM_STORE("1024", "16", "17", "18", "19")
        NM_STORE("1280", "20", "21", "22", "23")
        : [weights] "+r"(weights), [k] "+r"(k)
        : [starts] "r"(starts), [out] "r"(sums), [r0] "r"(rows[0] + n), [r1] "r"(rows[1] + n), [r2] "r"(rows[2] + n),
          [r3] "r"(rows[3] + n), [r4] "r"(rows[4] + n), [r5] "r"(rows[5] + n)
        : "memory", "cc", "zmm0", "zmm1", "zmm2", "zmm3", "zmm4", "zmm5", "zmm6", "zmm7", "zmm8", "zmm9", "zmm10",
          "zmm11", "zmm12", "zmm13", "zmm14", "zmm15", "zmm16", "zmm17", "zmm18", "zmm19", "zmm20", "zmm21", "zmm22",
          "zmm23", "zmm24", "zmm25", "zmm26", "zmm27", "zmm28");
}

#undef NM_ROW
#undef NM_COPY
#undef NM_STORE

#else

// The integer sums of one group: TILE_ROWS rows against 64 outputs, `n` depths.
static void sum_group(const uint8_t* const* rows, const int8_t* weights, const int32_t* starts, int64_t n,
                      int32_t* sums) {
    constexpr int WIDTH = LANES * TILE_VECTORS;  // outputs whose sums are in registers
    for (int64_t column = 0; column < PANEL; column += WIDTH) {
        Whole sum[TILE_ROWS][TILE_VECTORS];
        for (int r = 0; r < TILE_ROWS; ++r) {
            for (int j = 0; j < TILE_VECTORS; ++j) {
                sum[r][j] = OFFSET ? load_whole(starts + column + j * LANES) : zero_whole();
            }
        }
        const int8_t* at = weights + 4 * column;
        for (int64_t k = 0; k < n; k += 4, at += 4 * PANEL) {
            Activations a[TILE_ROWS];
            for (int r = 0; r < TILE_ROWS; ++r) {
                a[r] = activations(rows[r] + k);
            }
            for (int j = 0; j < TILE_VECTORS; ++j) {
                const Whole weight = load_whole(at + 4 * j * LANES);
                for (int r = 0; r < TILE_ROWS; ++r) {
                    dot(sum[r][j], a[r], weight);
                }
            }
        }
        for (int r = 0; r < TILE_ROWS; ++r) {
            for (int j = 0; j < TILE_VECTORS; ++j) {
                std::memcpy(sums + r * PANEL + column + j * LANES, &sum[r][j], sizeof(Whole));
            }
        }
    }
}

#endif

// sums[r] += row_scale[r] weight_scale whole[r], float32 (n_rows, PANEL), for the group `g`.
static void add_scaled(const Int8Product& p, const int32_t* whole, int64_t row, int n_rows, int64_t place, int64_t g,
                       float* sums) {
    for (int r = 0; r < n_rows; ++r) {
        const Real scale = all(p.row_scales[(row + r) * p.groups + g]);
        for (int64_t j = r * PANEL, at = place; j < (r + 1) * PANEL; j += LANES, at += LANES) {
            const Real both = times(scale, load_real(p.weight_scales + at));
            store_real(sums + j, multiply_add(real(load_whole(whole + j)), both, load_real(sums + j)));
        }
    }
}

// A tile of rows meets the groups [first, last) of a panel. Rows beyond `n_rows` repeat the last one.
static void meet(const Int8Product& p, int64_t row, int n_rows, int64_t panel, int64_t first, int64_t last,
                 float* sums) {
    alignas(64) int32_t whole[TILE_ROWS * PANEL];
    const uint8_t* rows[TILE_ROWS];
    for (int64_t g = first; g < last; ++g) {
        const int64_t k = g * p.group, n = std::min(p.group, p.depth - k);
        for (int r = 0; r < TILE_ROWS; ++r) {
            rows[r] = p.rows + (row + std::min(r, n_rows - 1)) * p.depth + k;
        }
        const int64_t place = (panel * p.groups + g) * PANEL;
        sum_group(rows, p.weights + (panel * p.depth + k) * PANEL, p.starts + place, n, whole);
        add_scaled(p, whole, row, n_rows, place, g, sums);
    }
}

// sums = the kept columns' part of rows [begin, end), in float32.
static void start_sums(const Int8Product& p, int64_t begin, int64_t end, int64_t panel, float* sums) {
    if (p.n_kept == 0) {
        std::memset(sums, 0, static_cast<size_t>((end - begin) * PANEL) * sizeof(float));
        return;
    }
    constexpr int WIDE = LANES == 16 ? 4 : 8;  // vectors of sums at a time
    const float* weights = p.kept_weights + panel * p.n_kept * PANEL;
    for (int64_t row = begin; row < end; ++row, sums += PANEL) {
        const float* values = p.kept_values + row * p.n_kept;
        for (int64_t column = 0; column < PANEL; column += WIDE * LANES) {
            Real sum[WIDE];
            for (int j = 0; j < WIDE; ++j) {
                sum[j] = all(0.0f);
            }
            for (int64_t i = 0; i < p.n_kept; ++i) {
                const Real value = all(values[i]);
                for (int j = 0; j < WIDE; ++j) {
                    sum[j] = multiply_add(value, load_real(weights + i * PANEL + column + j * LANES), sum[j]);
                }
            }
            for (int j = 0; j < WIDE; ++j) {
                store_real(sums + column + j * LANES, sum[j]);
            }
        }
    }
}

// Rows [begin, end) of y for one panel. A few groups of the panel stay in the first-level cache while all rows pass.
static void multiply_panel(const Int8Product& p, int64_t begin, int64_t end, int64_t panel) {
#if NM_INT8 == 1024
    const Tiles tiles;
#endif
    alignas(64) float sums[MAX_CHUNK_ROWS * PANEL];
    start_sums(p, begin, end, panel, sums);
    const int64_t step = std::max<int64_t>(1, CACHED_DEPTH / p.group);
    for (int64_t g = 0; g < p.groups; g += step) {
        for (int64_t row = begin; row < end; row += TILE_ROWS) {
            const int n = static_cast<int>(std::min<int64_t>(TILE_ROWS, end - row));
            meet(p, row, n, panel, g, std::min(g + step, p.groups), sums + (row - begin) * PANEL);
        }
    }
    const int64_t first = panel * PANEL, width = std::min<int64_t>(PANEL, p.outputs - first);
    for (int64_t row = begin; row < end; ++row) {
        float* out = p.y + row * p.y_stride + first;
        const float* in = sums + (row - begin) * PANEL;
        if (p.bias == nullptr && !p.add) {
            std::memcpy(out, in, static_cast<size_t>(width) * sizeof(float));
            continue;
        }
        for (int64_t j = 0; j < width; ++j) {
            const float before = p.add ? out[j] : 0.0f;
            out[j] = before + (p.bias == nullptr ? in[j] : in[j] + p.bias[first + j]);
        }
    }
}
