// Packed rows against packed weights on tiles. Included inside a namespace compiled for AMX; see bfloat16.cpp.

#include "tile_config.inl"

#include "bfloat16_pack.inl"

static inline void load_weights(const uint16_t* packed) {
    _tile_loadd(4, packed, STRIDE);
    _tile_loadd(5, packed + SIZE, STRIDE);
}

static inline void load_rows(const uint16_t* x) {
    _tile_loadd(6, x, STRIDE);
    _tile_loadd(7, x + SIZE, STRIDE);
}

// Two tiles of rows against two of outputs.
static inline void multiply_four() {
    _tile_dpbf16ps(0, 6, 4);
    _tile_dpbf16ps(1, 6, 5);
    _tile_dpbf16ps(2, 7, 4);
    _tile_dpbf16ps(3, 7, 5);
}

// 32 packed rows and packed weights over one depth.
struct Factors {
    const uint16_t *x, *packed;
    int64_t depth;
};

// The tiles of sums += 32 rows of x against 32 outputs.
template <int PARTS>
static inline void sum_tiles(const Factors& factors) {
    const uint16_t *x = factors.x, *packed = factors.packed;
    for (int64_t k = 0; k < factors.depth; k += DEPTH, x += 2 * PARTS * SIZE, packed += 2 * PARTS * SIZE) {
        load_weights(packed);
        if (PARTS == 2) {  // the small parts first
            load_rows(x);
            multiply_four();
        }
        load_rows(x + 2 * (PARTS - 1) * SIZE);
        multiply_four();
        if (PARTS == 2) {
            load_weights(packed + 2 * SIZE);
            multiply_four();
        }
    }
}

// Both products, summed into y, `apart` floats from row to row, or onto what is there.
template <int PARTS>
static void multiply_tiles(const Factors& first, const Factors& second, float* y, int64_t apart, bool onto) {
    if (onto) {
        _tile_loadd(0, y, apart * 4);
        _tile_loadd(1, y + TILE, apart * 4);
        _tile_loadd(2, y + TILE * apart, apart * 4);
        _tile_loadd(3, y + TILE * apart + TILE, apart * 4);
    } else {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        _tile_zero(3);
    }
    sum_tiles<PARTS>(first);
    sum_tiles<PARTS>(second);
    _tile_stored(0, y, apart * 4);
    _tile_stored(1, y + TILE, apart * 4);
    _tile_stored(2, y + TILE * apart, apart * 4);
    _tile_stored(3, y + TILE * apart + TILE, apart * 4);
    asm volatile("" ::: "memory");  // g++ 12 does not know that stores of tiles write memory
}

// One panel of outputs from `first` on against 32 rows from `row` on, what lies outside of y left out.
template <int PARTS>
static void multiply_panel(const TileProduct& product, int64_t row, int64_t first, const Factors& factors,
                           const Factors& second, bool onto) {
    const int64_t n_rows = std::min(PANEL, product.m - row), n = std::min(PANEL, product.outputs - first);
    float* y = product.y + row * product.outputs + first;
    if (n_rows == PANEL && n == PANEL) {
        multiply_tiles<PARTS>(factors, second, y, product.outputs, onto);
        return;
    }
    alignas(64) float room[PANEL * PANEL] = {};
    for (int64_t i = 0; onto && i < n_rows; ++i) {
        std::memcpy(room + i * PANEL, y + i * product.outputs, static_cast<size_t>(n) * sizeof(float));
    }
    asm volatile("" ::: "memory");
    multiply_tiles<PARTS>(factors, second, room, PANEL, onto);
    for (int64_t i = 0; i < n_rows; ++i) {
        std::memcpy(y + i * product.outputs, room + i * PANEL, static_cast<size_t>(n) * sizeof(float));
    }
}

// Rows [row, row + 32) of x into tiles, and of `low`, the update's first product: while they are in the cache.
template <int PARTS>
static void prepare_rows(const TileProduct& product, int64_t row) {
    for (int64_t i = row; i < row + PANEL; ++i) {
        split_row<PARTS>(product, i);
    }
    const Update* update = product.update;
    if (update == nullptr) {
        return;
    }
    asm volatile("" ::: "memory");  // nor that loads read it
    const Tiles tiles;
    const TileProduct& down = update->down;
    for (int64_t output = 0; output < down.outputs; output += PANEL) {
        const Factors factors = {product.split + PARTS * row * product.padded,
                                 update->packed_down + PARTS * output * down.padded, down.padded};
        multiply_panel<PARTS>(down, row, output, factors, {nullptr, nullptr, 0}, false);
    }
    for (int64_t i = row * down.outputs; i < std::min(row + PANEL, product.m) * down.outputs; ++i) {
        down.y[i] *= update->scale;
    }
    for (int64_t i = row; i < row + PANEL; ++i) {
        split_row<PARTS>(update->up, i);
    }
}

// Outputs [first, last): packed once, a run of the depth at a time, then met by all rows, 32 at a time. The update
// comes with the last run. `packed` has room for a run of the group, `packed_up` for the update's weights.
template <int PARTS>
static void multiply_group(const TileProduct& product, int64_t first, int64_t last, uint16_t* packed,
                           uint16_t* packed_up) {
    const Update* update = product.update;
    if (update != nullptr) {
        pack<PARTS>(update->up, first, last, 0, update->up.padded, packed_up);
    }
    for (int64_t begin = 0; begin < product.padded; begin += product.run) {
        const int64_t depth = std::min(product.run, product.padded - begin);
        pack<PARTS>(product, first, last, begin, begin + depth, packed);
        const int64_t low = update != nullptr && begin + depth == product.padded ? update->up.padded : 0;
        const Tiles tiles;
        for (int64_t row = 0; row < product.m; row += PANEL) {
            const uint16_t* x = product.split + PARTS * (row * product.padded + PANEL * begin);
            for (int64_t output = first; output < last; output += PANEL) {
                const int64_t at = PARTS * (output - first);
                const Factors second = {low ? update->up.split + PARTS * row * low : nullptr, packed_up + at * low, low};
                multiply_panel<PARTS>(product, row, output, {x, packed + at * depth, depth}, second,
                                      product.add || begin > 0);
            }
        }
    }
}
