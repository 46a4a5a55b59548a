// Products of stored blocks with many rows, on machines with AMX tiles of bfloat16.
//
// Tiles multiply bfloat16 sixteen times as fast as vectors multiply float32. A float32 number is taken as one bfloat16
// number, which keeps 8 bits of its fraction, or as the sum of two, which keeps 16; a product is then
//
//     x w = x_low w_high + x_high w_high + x_high w_low
//
// summed in float32: what is left out is some 2^-17 of |x| |w| (Henry, Tang & Heinecke 2019, arXiv 1904.06376). Weights
// are expanded and rounded where they are used, a few at a time, and never lie in memory twice. A row's result depends
// on no other row and not on the number of threads.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>

#include "amx.h"
#include "bfloat16.h"
#include "kernels.h"
#include "pool.h"

namespace nomoat {

#if NM_AMX

namespace {

// Memory of a thread for the time of a product, kept for the next one: fresh pages cost as much as filling them.
class Room {
public:
    uint16_t* take(int64_t n) {  // at an address that is a multiple of 64
        if (n > size_) {
            room_.reset(new uint16_t[static_cast<size_t>(n) + 32]);
            size_ = n;
        }
        return reinterpret_cast<uint16_t*>((reinterpret_cast<uintptr_t>(room_.get()) + 63) / 64 * 64);
    }

private:
    std::unique_ptr<uint16_t[]> room_;
    int64_t size_ = 0;
};

// Outputs packed together: two shares for every thread, but no more than the second-level cache holds.
int64_t outputs_at_once(const TileProduct& product, int threads, int parts) {
    constexpr int64_t CACHE = 1 << 19;  // bytes of packed weights
    const int64_t unit = product.transposed ? std::max<int64_t>(32, product.block_size) : 32;
    const int64_t most = CACHE / (2 * parts * product.run) / unit * unit;
    const int64_t shares = 2 * std::max(1, threads);
    return std::max(unit, std::min(most, up_to((product.outputs + shares - 1) / shares, unit)));
}

// Of the depth, equal runs whose 32 rows of x stay in the first-level cache.
int64_t depth_at_once(const TileProduct& product, int parts) {
    constexpr int64_t CACHE = 40960;  // bytes
    const int64_t unit = product.transposed ? 32 : std::max<int64_t>(32, product.block_size);
    const int64_t fit = std::max(unit, CACHE / (64 * parts) / unit * unit);
    const int64_t runs = std::max<int64_t>(1, (product.padded + fit - 1) / fit);
    return up_to(std::max<int64_t>(32, (product.padded + runs - 1) / runs), unit);
}

#define NM_BODY "bfloat16_tiles.inl"
#include "with_tiles.inl"
#undef NM_BODY

}  // namespace

// CPUID leaf 7, subleaf 1, EAX bit 5: vectors of bfloat16, which packing needs.
bool has_tiles() {
    static const bool has = usable_set(2) == 2 && has_bfloat16_tiles() && (cpuid(7, 1).a >> 5 & 1) == 1;
    return has;
}

namespace {

template <int PARTS>
void prepare(void* context, int64_t begin, int64_t end) {
    const auto& product = *static_cast<const TileProduct*>(context);
    for (int64_t run = begin; run < end; ++run) {
        tiles::prepare_rows<PARTS>(product, 32 * run);
    }
}

template <int PARTS>
void multiply_groups(void* context, int64_t begin, int64_t end) {
    const auto& product = *static_cast<const TileProduct*>(context);
    thread_local Room room;
    const int64_t size = PARTS * product.group * product.run;
    uint16_t* packed = room.take(size + (product.update ? PARTS * product.group * product.update->up.padded : 0));
    for (int64_t group = begin; group < end; ++group) {
        const int64_t first = group * product.group, last = std::min(first + product.group, product.outputs);
        tiles::multiply_group<PARTS>(product, first, last, packed, packed + size);
    }
}

template <int PARTS>
void multiply(TileProduct& product, Update* update, int threads) {
    thread_local Room room;
    const int64_t rows = up_to(product.m, 32);
    product.run = depth_at_once(product, PARTS);
    product.group = outputs_at_once(product, threads, PARTS);
    const int64_t x_size = PARTS * rows * product.padded, low_size = update ? PARTS * rows * update->up.padded : 0;
    const int64_t down_size = update ? PARTS * up_to(update->down.outputs, 32) * update->down.padded : 0;
    product.split = room.take(x_size + low_size + down_size);
    if (update != nullptr) {
        update->up.split = product.split + x_size;
        update->packed_down = update->up.split + low_size;
        tiles::pack<PARTS>(update->down, 0, update->down.outputs, 0, update->down.padded, update->packed_down);
    }
    product.update = update;
    parallel_for(threads, rows / 32, 1, prepare<PARTS>, &product);
    parallel_for(threads, up_to(product.outputs, product.group) / product.group, 1, multiply_groups<PARTS>, &product);
}

// y (m, rows or cols) = x . W^T, or with `transposed` x . W.
TileProduct product_of(const BlockType& type, const uint8_t* data, int64_t rows, int64_t cols, int64_t row_stride,
                       bool transposed, const float* x, int64_t m, float* y) {
    const int64_t outputs = transposed ? cols : rows, depth = transposed ? rows : cols;
    return {best_up_to(2).expanders[type.index], type.block_size, type.type_size, data, rows, cols, row_stride,
            transposed, outputs, depth, up_to(std::max<int64_t>(1, depth), 32), x, m, nullptr, y, false, 0, 0, nullptr};
}

TileProduct product_of(const float* matrix, int64_t rows, int64_t cols, bool transposed, const float* x, int64_t m,
                       float* y) {
    return product_of(*find_type(0), reinterpret_cast<const uint8_t*>(matrix), rows, cols, 4 * cols, transposed, x, m, y);
}

}  // namespace

#else

bool has_tiles() { return false; }

#endif  // NM_AMX

}  // namespace nomoat

// Whether nm_matmul_tiles may be called on this machine.
NM_EXPORT int nm_has_tiles() { return nomoat::has_tiles() ? 1 : 0; }

// For stored W (rows, cols): y (m, rows) = x (m, cols) . W^T, or with `transposed` y (m, cols) = x (m, rows) . W; with
// `add` that is added to what y holds. Every float32 number is taken as the sum of `parts` numbers in bfloat16, 1 or 2.
//
// With `rank` > 0 an update lies on top: low (m, rank) = scale x . A^T and y += low . B^T for `a` = A (rank, cols) and
// `b` = B (rows, rank); with `transposed` low = scale x . B and y += low . A. `low` is given back.
// All without gaps. Returns 0, or 1 for arguments that cannot be.
NM_EXPORT int nm_matmul_tiles(int threads, int ggml_id, const uint8_t* data, int64_t rows, int64_t cols,
                              int64_t row_stride, const float* x, int64_t m, int parts, int transposed, int add,
                              float* y, int64_t rank, const float* a, const float* b, float scale, float* low) {
    using namespace nomoat;
    const BlockType* type = find_type(ggml_id);
    if (type == nullptr || !has_tiles() || rows < 0 || cols < 0 || cols % type->block_size != 0 || m < 0 ||
        parts < 1 || parts > 2 || rank < 0) {
        return 1;
    }
#if NM_AMX
    const bool back = transposed != 0;
    TileProduct product = product_of(*type, data, rows, cols, row_stride, back, x, m, y);
    product.add = add != 0;
    Update update = {back ? product_of(b, rows, rank, true, x, m, low) : product_of(a, rank, cols, false, x, m, low),
                     back ? product_of(a, rank, cols, true, low, m, y) : product_of(b, rows, rank, false, low, m, y),
                     scale, nullptr};
    if (m > 0) {
        (parts == 1 ? multiply<1> : multiply<2>)(product, rank > 0 ? &update : nullptr, threads);
    }
#else
    (void)threads, (void)data, (void)row_stride, (void)x, (void)transposed, (void)add, (void)y, (void)a, (void)b,
        (void)scale, (void)low;
#endif
    return 0;
}
