// Many rows against blocks on AMX tiles of bfloat16. Included inside a namespace compiled for AMX; see wide.cpp.

constexpr int64_t TILE = 16;       // rows of a tile
constexpr int64_t DEPTH = 32;      // bfloat16 numbers of a row of a tile
constexpr int64_t SIZE = 512;      // numbers of a tile
constexpr int64_t STRIDE = 64;     // bytes from row to row of a packed tile
constexpr int64_t AT_A_TIME = 256;  // weights of a row expanded at a time

// Layout of the operand of LDTILECFG (Intel SDM volume 2, chapter 3).
struct alignas(64) TileConfig {
    uint8_t palette, start_row, reserved[14];
    uint16_t row_bytes[16];
    uint8_t rows[16];
};

// Tiles are set up for this object's life; outside of it their state is empty and costs nothing to save.
struct Tiles {
    Tiles() {
        TileConfig config = {};
        config.palette = 1;
        for (int i = 0; i < 8; ++i) {
            config.row_bytes[i] = STRIDE;
            config.rows[i] = TILE;
        }
        asm volatile("" ::"r"(&config) : "memory");  // g++ 12 thinks that only its first eight bytes are read
        _tile_loadconfig(&config);
    }
    ~Tiles() { _tile_release(); }
};

// 32 floats as the nearest bfloat16 numbers, and what is missing as such numbers again.
static inline void split(const float* in, __m512i& high, __m512i& low) {
    const __m512 a = _mm512_loadu_ps(in), b = _mm512_loadu_ps(in + 16);
    high = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a));
    const __m512i near_a = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_castsi512_si256(high)), 16);
    const __m512i near_b = _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm512_extracti64x4_epi64(high, 1)), 16);
    const __m512 rest_a = _mm512_sub_ps(a, _mm512_castsi512_ps(near_a));
    const __m512 rest_b = _mm512_sub_ps(b, _mm512_castsi512_ps(near_b));
    low = reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(rest_b, rest_a));
}

// Row `row` of x into tiles, (rows / 32, depth / DEPTH, 4 tiles): low, low, high, high of two runs of sixteen rows. A
// product then reads memory in one stream. Zeros after the row's end, and for rows that x does not have.
static void split_row(const WideProduct& product, int64_t row) {
    alignas(64) float padded[DEPTH];
    const float* x = product.x + row * product.cols;
    uint16_t* to = product.split + row / 32 * 64 * product.depth + row % 32 * DEPTH;
    for (int64_t k = 0; k < product.depth; k += DEPTH, to += 4 * SIZE) {
        const int64_t n = row < product.m ? std::min(DEPTH, product.cols - k) : 0;
        if (n < DEPTH) {
            std::memset(padded, 0, sizeof padded);
            std::memcpy(padded, x + (n > 0 ? k : 0), static_cast<size_t>(n) * sizeof(float));
        }
        __m512i high, low;
        split(n < DEPTH ? padded : x + k, high, low);
        _mm512_store_si512(to, low);
        _mm512_store_si512(to + 2 * SIZE, high);
    }
}

// 16 x 16 numbers of 32 bits, rows to columns.
static inline void transpose(__m512i* r) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; ++i) {
        t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; ++i) {
        r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

// 16 rows of 32 expanded weights, `apart` floats apart -> a tile of the high and one of the low halves, in which
// neighbours in depth lie side by side and outputs follow each other.
static inline void pack_tile(const float* weights, int64_t apart, uint16_t* high_to, uint16_t* low_to) {
    __m512i high[16], low[16];
    for (int i = 0; i < 16; ++i) {
        split(weights + i * apart, high[i], low[i]);
    }
    transpose(high);
    transpose(low);
    for (int i = 0; i < 16; ++i) {
        _mm512_store_si512(high_to + i * DEPTH, high[i]);
        _mm512_store_si512(low_to + i * DEPTH, low[i]);
    }
}

// Weight rows [first, first + 2 * TILE) into (depth / DEPTH, 4 tiles): high, high, low, low of the two runs of rows.
static void pack_panel(const WideProduct& product, int64_t first, uint16_t* packed) {
    alignas(64) float weights[TILE * AT_A_TIME];
    for (int64_t run = 0; run < 2; ++run) {
        const int64_t row = first + run * TILE, n_rows = std::max<int64_t>(0, std::min(TILE, product.rows - row));
        for (int64_t k = 0; k < product.depth; k += AT_A_TIME) {
            const int64_t n = std::max<int64_t>(0, std::min(AT_A_TIME, product.cols - k));
            if (n < AT_A_TIME || n_rows < TILE) {
                std::memset(weights, 0, sizeof weights);
            }
            const uint8_t* in = product.weights + row * product.row_stride + k / product.block_size * product.type_size;
            for (int64_t i = 0; i < n_rows; ++i) {
                product.expand(in + i * product.row_stride, n / product.block_size, weights + i * AT_A_TIME);
            }
            for (int64_t at = 0; at < AT_A_TIME && k + at < product.depth; at += DEPTH) {
                uint16_t* to = packed + (k + at) / DEPTH * 4 * SIZE + run * SIZE;
                pack_tile(weights + at, AT_A_TIME, to, to + 2 * SIZE);
            }
        }
    }
    asm volatile("" ::: "memory");  // g++ 12 does not know that loads of tiles read memory
}

// 32 rows of x against 32 outputs, into y, `apart` floats from row to row.
static void multiply_tiles(const uint16_t* x, const uint16_t* packed, int64_t depth, float* y, int64_t apart) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int64_t k = 0; k < depth; k += DEPTH, x += 4 * SIZE, packed += 4 * SIZE) {
        _tile_loadd(4, packed, STRIDE);
        _tile_loadd(5, packed + SIZE, STRIDE);
        _tile_loadd(6, x, STRIDE);
        _tile_dpbf16ps(0, 6, 4);
        _tile_dpbf16ps(1, 6, 5);
        _tile_loadd(7, x + SIZE, STRIDE);
        _tile_dpbf16ps(2, 7, 4);
        _tile_dpbf16ps(3, 7, 5);
        _tile_loadd(6, x + 2 * SIZE, STRIDE);
        _tile_dpbf16ps(0, 6, 4);
        _tile_dpbf16ps(1, 6, 5);
        _tile_loadd(7, x + 3 * SIZE, STRIDE);
        _tile_dpbf16ps(2, 7, 4);
        _tile_dpbf16ps(3, 7, 5);
        _tile_loadd(4, packed + 2 * SIZE, STRIDE);
        _tile_loadd(5, packed + 3 * SIZE, STRIDE);
        _tile_dpbf16ps(0, 6, 4);
        _tile_dpbf16ps(1, 6, 5);
        _tile_dpbf16ps(2, 7, 4);
        _tile_dpbf16ps(3, 7, 5);
    }
    _tile_stored(0, y, apart * 4);
    _tile_stored(1, y + TILE, apart * 4);
    _tile_stored(2, y + TILE * apart, apart * 4);
    _tile_stored(3, y + TILE * apart + TILE, apart * 4);
    asm volatile("" ::: "memory");  // nor that stores write it
}

// One panel of outputs against 32 rows, what lies outside of y left out.
static void multiply_panel(const WideProduct& product, int64_t row, int64_t first, const uint16_t* packed) {
    const uint16_t* x = product.split + 2 * row * product.depth;
    const int64_t n_rows = std::min(2 * TILE, product.m - row), n = std::min(2 * TILE, product.rows - first);
    float* y = product.y + row * product.rows + first;
    if (n_rows == 2 * TILE && n == 2 * TILE) {
        multiply_tiles(x, packed, product.depth, y, product.rows);
        return;
    }
    alignas(64) float room[4 * TILE * TILE];
    multiply_tiles(x, packed, product.depth, room, 2 * TILE);
    for (int64_t i = 0; i < n_rows; ++i) {
        std::memcpy(y + i * product.rows, room + i * 2 * TILE, static_cast<size_t>(n) * sizeof(float));
    }
}

// Outputs [begin, end), both multiples of 32 but the last: packed once, then met by all rows, 32 at a time.
static void multiply_group(const WideProduct& product, int64_t begin, int64_t end, uint16_t* packed) {
    const int64_t panel = 2 * TILE, size = 2 * panel * product.depth;
    for (int64_t first = begin; first < end; first += panel) {
        pack_panel(product, first, packed + (first - begin) / panel * size);
    }
    const Tiles tiles;
    for (int64_t row = 0; row < product.m; row += panel) {
        for (int64_t first = begin; first < end; first += panel) {
            multiply_panel(product, row, first, packed + (first - begin) / panel * size);
        }
    }
}
