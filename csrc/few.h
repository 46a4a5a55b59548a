// A product of stored blocks with up to MAX_ROWS rows on tiles of bfloat16, as exact as one in float32.

#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "kernels.h"

namespace nomoat {

// Rows of weights that a thread takes at a time: they share what is near of x.
constexpr int64_t FEW_ROWS_PER_CHUNK = 48;

// Whether this machine has what it takes: tiles of bfloat16, and vectors of float16 for eight-bit weights.
bool has_few();

// Whether blocks of that type, found in `rows` rows, are multiplied here.
bool takes_few(const BlockType& type, int64_t rows);

// Bytes of m rows of x once they are split.
int64_t split_size(int64_t m, int64_t cols);

// x (m, cols) for Product::split, to an address that is a multiple of 64; cols is a multiple of 32, m at most MAX_ROWS.
void split_few(const float* x, int64_t m, int64_t cols, uint8_t* to);

// Any number of rows of x, split MAX_ROWS at a time.
class Split {
public:
    void fill(const float* x, int64_t m, int64_t cols) {
        piece_ = split_size(MAX_ROWS, cols);
        room_.resize(static_cast<size_t>((m + MAX_ROWS - 1) / MAX_ROWS * piece_ + 64));
        for (int64_t first = 0; first < m; first += MAX_ROWS) {
            split_few(x + first * cols, std::min(MAX_ROWS, m - first), cols, from(first));
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

// y[m, r] for weight rows [begin, end), of a product with `split` that is taken.
void matmul_few(const Product& product, int64_t begin, int64_t end);

}  // namespace nomoat
