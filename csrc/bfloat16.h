// A product with stored blocks on tiles of bfloat16, as its parts see it.

#pragma once

#include <cstdint>

#include "kernels.h"

namespace nomoat {

struct Update;

struct TileProduct {
    Expand expand;
    int64_t block_size, type_size;
    const uint8_t* weights;
    int64_t rows, cols, row_stride;
    bool transposed;         // false: y = x W^T; true: y = x W
    int64_t outputs, depth;  // of the product: rows and cols, or cols and rows
    int64_t padded;          // depth rounded up to whole tiles
    const float* x;          // (m, depth)
    int64_t m;
    uint16_t* split;  // x (m rounded up to 32, padded), once or twice: see split_row
    float* y;         // (m, outputs)
    bool add;         // to what y holds
    int64_t group;    // outputs that a thread takes at a time
    int64_t run;      // of the depth that is packed at a time
    const Update* update;  // null: none
};

// A low-rank update on top of a product: y += (scale x down) up, in the same pass over y.
struct Update {
    TileProduct down;  // makes low, float32 (m, rank), scaled
    TileProduct up;    // takes it
    float scale;
    uint16_t* packed_down;
};

inline int64_t up_to(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// Whether this machine has tiles of bfloat16 that may be used.
bool has_tiles();

}  // namespace nomoat
