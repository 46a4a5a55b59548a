// A product of stored blocks with many rows on instructions for eight-bit integers, as its parts see it.

#pragma once

#include <cstdint>

#include "kernels.h"

namespace nomoat {

constexpr int64_t RUN = 32;       // numbers of a row of x under one scale
constexpr int64_t PANEL_64 = 64;  // outputs that lie side by side

// Rows of x as whole numbers: x = scale (256 high + low), or scale high where one limb is all. High bytes are 128 too
// large.
struct Limbs {
    int64_t runs;    // of a row
    uint8_t* bytes;  // (parts, rows, cols), the high limbs first
    float* scales;   // (rows, runs)
    float* sums;     // (rows, runs), of the numbers that the limbs stand for
};

struct LimbsProduct {
    const BlockType* type;
    const uint8_t* weights;
    int64_t rows, cols, row_stride;  // row_stride in bytes
    const float* x;                  // (m, cols)
    int64_t m;
    Limbs limbs;
    float* y;  // (m, rows)
    int64_t panels, chunk_rows;
};

// Whether this machine multiplies eight-bit integers 64 at a time (AVX-512-VNNI).
bool has_limbs();

}  // namespace nomoat
