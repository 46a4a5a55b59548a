// A product of stored blocks with up to MAX_ROWS rows on tiles of bfloat16, as exact as one in float32.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels.h"

namespace nomoat {

// Rows of weights that a thread takes at a time: they share what is near of x.
constexpr int64_t FEW_ROWS_PER_CHUNK = 48;

// One way to do so.
struct Few {
    // Whether blocks of that type, found in `rows` rows, are multiplied so.
    bool (*takes)(const BlockType& type, int64_t rows);
    // Bytes of m rows of x once they are split.
    int64_t (*split_size)(int64_t m, int64_t cols);
    // x (m, cols) for Product::split, to an address that is a multiple of 64; cols is a multiple of 32.
    void (*split)(const float* x, int64_t m, int64_t cols, uint8_t* to);
    // y[m, r] for weight rows [begin, end), of a product with `split` that is taken.
    void (*multiply)(const Product& product, int64_t begin, int64_t end);
};

// What this machine has; null: nothing. Tiles need vectors of float16 too, for eight-bit weights; limbs AVX-512-VNNI.
const Few* few_on_tiles();
const Few* few_in_limbs();

// Any number of rows of x, split MAX_ROWS at a time.
class Split {
public:
    void fill(const Few& few, const float* x, int64_t m, int64_t cols) {
        piece_ = few.split_size(MAX_ROWS, cols);
        room_.resize(static_cast<size_t>((m + MAX_ROWS - 1) / MAX_ROWS * piece_ + 64));
        for (int64_t first = 0; first < m; first += MAX_ROWS) {
            few.split(x + first * cols, std::min(MAX_ROWS, m - first), cols, from(first));
        }
    }

    // The rows from `row`, a multiple of MAX_ROWS, on.
    uint8_t* from(int64_t row) {
        const auto at = (reinterpret_cast<uintptr_t>(room_.data()) + 63) / 64 * 64;
        return reinterpret_cast<uint8_t*>(at) + row / MAX_ROWS * piece_;
    }

private:
    std::vector<uint8_t> room_;
    int64_t piece_ = 0;
};

// y[m, r] for weight rows [begin, end) of any product.
inline void multiply(const InstructionSet& isa, const Product& product, int64_t begin, int64_t end) {
    (product.split != nullptr ? isa.few->multiply : isa.matmul_rows)(product, begin, end);
}

}  // namespace nomoat
