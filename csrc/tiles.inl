// Small matrix products for tiles that lie in the caches. Included once per instruction set, after floats.inl.

constexpr int64_t TILE_ROWS = 6;
constexpr int64_t TILE_VECTORS = NM_VECTOR == 512 ? 4 : 2;  // with TILE_ROWS as many sums as there are registers for

// Sums of up to 6 rows and 4 vectors: c[i][:] (+)= sum over s of a[i a_row + s a_step] * b[s b_step + :].
struct Tile {
    const float* a;
    int64_t a_row, a_step;
    const float* b;
    int64_t b_step, depth;
    float* c;
    int64_t c_row;
    bool onto;  // add to what is in c
};

template <int ROWS, int VECTORS>
static void tile_product(const Tile& t) {
    Floats sums[ROWS][VECTORS];
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 8
        for (int j = 0; j < VECTORS; ++j) {
            sums[i][j] = t.onto ? load(t.c + i * t.c_row + j * W) : all(0);
        }
    }
    const float *a = t.a, *b = t.b;
    for (int64_t s = 0; s < t.depth; ++s, a += t.a_step, b += t.b_step) {
        Floats right[VECTORS];
#pragma GCC unroll 8
        for (int j = 0; j < VECTORS; ++j) {
            right[j] = load(b + j * W);
        }
#pragma GCC unroll 8
        for (int i = 0; i < ROWS; ++i) {
            const Floats left = all(a[i * t.a_row]);
#pragma GCC unroll 8
            for (int j = 0; j < VECTORS; ++j) {
                sums[i][j] = fma(left, right[j], sums[i][j]);
            }
        }
    }
#pragma GCC unroll 8
    for (int i = 0; i < ROWS; ++i) {
#pragma GCC unroll 8
        for (int j = 0; j < VECTORS; ++j) {
            store(t.c + i * t.c_row + j * W, sums[i][j]);
        }
    }
}

using TileProduct = void (*)(const Tile&);

template <int ROWS>
static TileProduct tile_of_rows(int64_t vectors) {
#if NM_VECTOR == 512
    switch (vectors) {
        case 1: return tile_product<ROWS, 1>;
        case 2: return tile_product<ROWS, 2>;
        case 3: return tile_product<ROWS, 3>;
        default: return tile_product<ROWS, 4>;
    }
#else
    return vectors == 1 ? tile_product<ROWS, 1> : tile_product<ROWS, 2>;
#endif
}

static TileProduct tile_of(int64_t rows, int64_t vectors) {
    switch (rows) {
        case 1: return tile_of_rows<1>(vectors);
        case 2: return tile_of_rows<2>(vectors);
        case 3: return tile_of_rows<3>(vectors);
        case 4: return tile_of_rows<4>(vectors);
        case 5: return tile_of_rows<5>(vectors);
        default: return tile_of_rows<6>(vectors);
    }
}

// Up to TILE_ROWS rows and any number of vectors.
static void rows_product(Tile t, int64_t rows, int64_t vectors) {
    for (int64_t j = 0; j < vectors; j += TILE_VECTORS) {
        const int64_t some = vectors - j < TILE_VECTORS ? vectors - j : TILE_VECTORS;
        tile_of(rows, some)(t);
        t.b += some * W;
        t.c += some * W;
    }
}

// to[c * to_row + r] = from[r * from_row + c]; what lies behind `rows` in the last vector of `to` is overwritten.
static void transpose(const float* from, int64_t from_row, int64_t rows, int64_t columns, float* to, int64_t to_row) {
    int64_t r = 0;
#if NM_VECTOR
    for (; r + 8 <= rows; r += 8) {
        int64_t c = 0;
        for (; c + 8 <= columns; c += 8) {
            const float* in = from + r * from_row + c;
            __m256 row[8], pair[8];
            for (int i = 0; i < 8; ++i) {
                row[i] = _mm256_loadu_ps(in + i * from_row);
            }
            for (int i = 0; i < 4; ++i) {
                pair[2 * i] = _mm256_unpacklo_ps(row[2 * i], row[2 * i + 1]);
                pair[2 * i + 1] = _mm256_unpackhi_ps(row[2 * i], row[2 * i + 1]);
            }
            for (int i = 0; i < 2; ++i) {
                const __m256 *low = pair + 4 * i, *high = low + 2;
                row[4 * i] = _mm256_shuffle_ps(low[0], high[0], 0x44);
                row[4 * i + 1] = _mm256_shuffle_ps(low[0], high[0], 0xee);
                row[4 * i + 2] = _mm256_shuffle_ps(low[1], high[1], 0x44);
                row[4 * i + 3] = _mm256_shuffle_ps(low[1], high[1], 0xee);
            }
            float* out = to + c * to_row + r;
            for (int i = 0; i < 4; ++i) {
                _mm256_storeu_ps(out + i * to_row, _mm256_permute2f128_ps(row[i], row[i + 4], 0x20));
                _mm256_storeu_ps(out + (i + 4) * to_row, _mm256_permute2f128_ps(row[i], row[i + 4], 0x31));
            }
        }
        for (; c < columns; ++c) {
            for (int64_t i = r; i < r + 8; ++i) {
                to[c * to_row + i] = from[i * from_row + c];
            }
        }
    }
#endif
    for (; r < rows; ++r) {
        for (int64_t c = 0; c < columns; ++c) {
            to[c * to_row + r] = from[r * from_row + c];
        }
    }
}
