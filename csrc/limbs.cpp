// Products of stored blocks with many rows, on machines that multiply eight-bit integers 64 at a time (AVX-512-VNNI).
//
// What is stored of a weight, next to its block's scale, is a small whole number. A row of x is taken as whole numbers
// too, 32 under one scale: in one limb of eight bits, as llama.cpp's Q8_0 takes it, or in two, sixteen bits with the
// sign. So integer instructions multiply, their sums are exact, and only what a scale is applied to is in
// float32. Blocks are unpacked where they are used, a few at a time. A row's result depends on no other row and not on
// the number of threads.

#include "limbs.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>

#include "pool.h"

namespace nomoat {

#if NM_X86

namespace {

#define NM_BODY "limbs_product.inl"
#include "with_vnni.inl"
#undef NM_BODY

constexpr int64_t CHUNK_BYTES = 1 << 19;  // of limbs that stay in the second-level cache

// Whole tiles of rows, no more than the cache holds, and shares enough for all threads, as many for each.
int64_t rows_of_a_chunk(int64_t m, int64_t cols, int parts, int64_t panels, int threads) {
    const int64_t fit = std::max<int64_t>(96, CHUNK_BYTES / (parts * cols));
    const int64_t shares = (4 * threads + panels - 1) / panels, most = m / 48;  // fewer rows: unpacking costs too much
    int64_t chunks = std::max({int64_t{1}, (m + fit - 1) / fit, std::min(shares, most)});
    while (chunks < most && panels * chunks % threads != 0) {
        ++chunks;
    }
    const int64_t each = (m + chunks - 1) / chunks;
    return (each + vnni::TILE_OF_ROWS - 1) / vnni::TILE_OF_ROWS * vnni::TILE_OF_ROWS;
}

template <int PARTS>
void rows_to_limbs(const LimbsProduct& product, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
        vnni::to_limbs<PARTS>(product, row);
    }
}

// Items are panels of one chunk of rows, then of the next: a chunk stays in the cache while the weights pass by.
template <int PARTS>
void multiply_panels(const LimbsProduct& product, int64_t begin, int64_t end) {
    const vnni::PanelsOf& of = vnni::panels[product.type->index];
    for (int64_t item = begin; item < end; ++item) {
        const int64_t row = item / product.panels * product.chunk_rows;
        (PARTS == 1 ? of.in_one : of.in_two)(product, item % product.panels, row,
                                             std::min(row + product.chunk_rows, product.m));
    }
}

template <int PARTS>
void multiply(LimbsProduct& product, int threads) {
    thread_local std::unique_ptr<uint8_t[]> room;  // kept: fresh pages cost as much as filling them
    thread_local int64_t size = 0;
    const int64_t runs = product.cols / RUN, bytes = PARTS * product.m * product.cols;
    const int64_t wanted = bytes + 2 * product.m * runs * static_cast<int64_t>(sizeof(float));
    if (wanted > size) {
        room.reset(new uint8_t[static_cast<size_t>(wanted)]);
        size = wanted;
    }
    auto* scales = reinterpret_cast<float*>(room.get() + bytes);  // bytes is a multiple of 32
    product.limbs = {runs, room.get(), scales, scales + product.m * runs};
    product.panels = (product.rows + PANEL_64 - 1) / PANEL_64;
    product.chunk_rows = rows_of_a_chunk(product.m, product.cols, PARTS, product.panels, threads);
    const int64_t chunks = (product.m + product.chunk_rows - 1) / product.chunk_rows;
    parallel_over(threads, product.m, std::max<int64_t>(1, 16384 / product.cols), product, rows_to_limbs<PARTS>);
    parallel_over(threads, product.panels * chunks, 1, product, multiply_panels<PARTS>);
}

bool takes(const BlockType* type, int64_t rows) {
    return has_limbs() && type != nullptr && rows >= vnni::ROWS && vnni::panels[type->index].in_one != nullptr;
}

}  // namespace

bool has_limbs() {
    static const bool has = usable_set(2) == 2 && __builtin_cpu_supports("avx512vnni") != 0;
    return has;
}

#else

bool has_limbs() { return false; }

#endif  // NM_X86

}  // namespace nomoat

// Whether this machine has what nm_matmul_limbs needs.
NM_EXPORT int nm_has_limbs() { return nomoat::has_limbs() ? 1 : 0; }

// Whether nm_matmul_limbs takes a matrix of so many rows of such blocks on this machine.
NM_EXPORT int nm_takes_limbs(int ggml_id, int64_t rows) {
#if NM_X86
    return nomoat::takes(nomoat::find_type(ggml_id), rows) ? 1 : 0;
#else
    (void)ggml_id, (void)rows;
    return 0;
#endif
}

// y (m, rows) = x (m, cols) . W^T for stored W, every number of x in `parts` limbs, 1 or 2. x and y without gaps.
// Returns 0, or 1 for arguments that cannot be.
NM_EXPORT int nm_matmul_limbs(int threads, int ggml_id, const uint8_t* data, int64_t rows, int64_t cols,
                              int64_t row_stride, const float* x, int64_t m, int parts, float* y) {
#if NM_X86
    using namespace nomoat;
    const BlockType* type = find_type(ggml_id);
    if (!takes(type, rows) || cols < 0 || cols % type->block_size != 0 || m < 0 || parts < 1 || parts > 2) {
        return 1;
    }
    if (cols == 0) {
        std::fill_n(y, m * rows, 0.0f);
    } else if (m > 0) {
        LimbsProduct product = {type, data, rows, cols, row_stride, x, m, {}, y, 0, 0};
        (parts == 1 ? multiply<1> : multiply<2>)(product, threads);
    }
    return 0;
#else
    (void)threads, (void)ggml_id, (void)data, (void)rows, (void)cols, (void)row_stride, (void)x, (void)m, (void)parts,
        (void)y;
    return 1;
#endif
}
