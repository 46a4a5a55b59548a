// Products of stored blocks with a few rows of x, on machines that multiply eight-bit integers 64 at a time
// (AVX-512-VNNI).
//
// What is stored of a weight, next to its block's scale, is a small whole number. A number of x is taken as a whole number
// too, of three limbs of eight bits: at most 2^-24 of the largest of 32 neighbours is rounded away, what float32 itself
// rounds of that one. So integers are multiplied and added exactly, and the scales are applied to the sums. A weight
// is unpacked once for all rows. A row's result depends on no other row and not on the number of threads.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>

#include "few.h"
#include "limbs.h"

namespace nomoat {

#if NM_X86

namespace {

constexpr int64_t FEW_DEPTH = 256;  // weights of each row that are unpacked together

// 32 columns of a split row: x = scale (65536 limbs[0] + 256 limbs[1] + limbs[2]).
struct RunOfRow {
    int8_t limbs[3][RUN];
    float scale, sum;    // of the numbers that the limbs stand for
    int32_t sums[2][3];  // of the limbs in each half of the run
};
static_assert(sizeof(RunOfRow) == 128, "whole lines of the cache");

constexpr int64_t size_of_run(int64_t m) { return m * static_cast<int64_t>(sizeof(RunOfRow)); }

#define NM_BODY "few_limbs.inl"
#include "with_vnni.inl"
#undef NM_BODY

bool takes(const BlockType& type, int64_t rows) {
    return rows >= vnni::ROWS && vnni::products[type.index] != nullptr;
}

int64_t split_size(int64_t m, int64_t cols) { return cols / RUN * size_of_run(m); }

void multiply_few(const Product& product, int64_t begin, int64_t end) {
    vnni::products[product.type->index](product, begin, end);
}

}  // namespace

const Few* few_in_limbs() {
    static constexpr Few FEW = {takes, split_size, vnni::split, multiply_few};
    return has_limbs() ? &FEW : nullptr;
}

#else

const Few* few_in_limbs() { return nullptr; }

#endif

}  // namespace nomoat
