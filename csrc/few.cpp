// Products of stored blocks with a few rows of x, on machines with AMX tiles of bfloat16.
//
// What is stored of a weight, next to its block's scale, is a small whole number, which bfloat16 holds exactly. A
// float32 number of x is the sum of three bfloat16 numbers, exactly (Henry, Tang & Heinecke 2019, arXiv 1904.06376).
// So tiles multiply whole numbers with x, block by block, summed in float32, and the scales are applied to the sums:
// what is rounded is what float32 would round. A weight is unpacked once for all rows, so that sixteen rows cost little
// more than one. A row's result depends on no other row and not on the number of threads.

#include "few.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "amx.h"
#include "bfloat16.h"

#if NM_AMX && __has_include(<avx512fp16intrin.h>)
#define NM_FEW 1
#else
#define NM_FEW 0
#endif

namespace nomoat {

constexpr int64_t DEPTH = 32;  // weights that meet in a tile
constexpr int64_t LINE_OF_X = 64;  // bytes of 32 bfloat16 numbers
constexpr int64_t MOST_IN_ONE = 8;  // rows of x whose first and second limbs are one tile

// Lines of a split row in 32 columns: its three limbs, and one of zeros where two limbs are one tile.
constexpr int64_t limbs_of(int64_t m) { return m <= MOST_IN_ONE ? 4 : 3; }

// Bytes of 32 columns of m split rows; after their lines come MAX_ROWS floats.
constexpr int64_t size_of_run(int64_t m) { return limbs_of(m) * m * LINE_OF_X + MAX_ROWS * 4; }

#if NM_FEW

namespace {

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512fp16,amx-tile,amx-bf16,f16c"))), \
    apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,avx512fp16,amx-tile,amx-bf16,f16c")
#endif
namespace few {
#include "few_unpack.inl"

#include "few_blocks32.inl"

#include "few_blocks256.inl"

#include "few_tiles.inl"
}  // namespace few
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

bool takes(const BlockType& type, int64_t rows) { return rows >= few::ROWS && few::products[type.index] != nullptr; }

int64_t split_size(int64_t m, int64_t cols) { return cols / DEPTH * size_of_run(m); }

void multiply_few(const Product& product, int64_t begin, int64_t end) {
    few::products[product.type->index](product, begin, end);
}

}  // namespace

// CPUID leaf 7, EDX bit 23: vectors of float16.
const Few* few_on_tiles() {
    static const bool has = has_tiles() && (cpuid(7, 0).d >> 23 & 1) == 1;
    static constexpr Few FEW = {takes, split_size, few::split, multiply_few};
    return has ? &FEW : nullptr;
}

#else

const Few* few_on_tiles() { return nullptr; }

#endif

}  // namespace nomoat
