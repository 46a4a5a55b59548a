// Products of stored blocks with many rows, on machines with AMX tiles of bfloat16.
//
// A float32 number is taken as the sum of two bfloat16 numbers, which keeps 16 bits of its fraction, and a product as
//
//     x w = x_low w_high + x_high w_high + x_high w_low
//
// summed in float32: what is left out is some 2^-17 of |x| |w| (Henry, Tang & Heinecke 2019, arXiv 1904.06376). Tiles
// multiply bfloat16 sixteen times as fast as vectors multiply float32. A row's result depends on no other row and not
// on the number of threads.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>

#include "kernels.h"
#include "platform.h"
#include "pool.h"

// Tiles need a compiler that knows them, and Linux, whose permission a process must ask for.
#if NM_X86 && defined(__linux__) && __has_include(<amxbf16intrin.h>)
#define NM_WIDE 1
#include <sys/syscall.h>
#include <unistd.h>
#else
#define NM_WIDE 0
#endif

namespace nomoat {
namespace {

struct WideProduct {
    Expand expand;
    int64_t block_size, type_size;
    const uint8_t* weights;
    int64_t rows, cols, row_stride;
    const float* x;  // (m, cols)
    int64_t m, depth;  // depth: cols rounded up to whole tiles
    uint16_t* split;   // x (m rounded up to 32, depth), twice: see split_row
    float* y;  // (m, rows)
    int64_t group;  // outputs that a thread takes at a time
};

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

#if NM_WIDE

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16")
#endif
namespace tiles {
#include "wide_tiles.inl"
}  // namespace tiles
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

uint32_t features(uint32_t subleaf, bool d) {
    uint32_t a = 7, b = 0, c = subleaf, edx = 0;
    asm volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(edx));
    return d ? edx : a;
}

// CPUID leaf 7: EDX bits 22 (tiles of bfloat16) and 24 (tiles), subleaf 1 EAX bit 5 (bfloat16 vectors). Linux lets a
// process use tiles only once it has asked (Documentation/arch/x86/xstate.rst): it then saves 8 KiB more of a thread.
bool has_tiles() {
    constexpr int REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
    static const bool has = usable_set(2) == 2 && (features(0, true) >> 22 & 5) == 5 &&
                            (features(1, false) >> 5 & 1) == 1 &&
                            syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
    return has;
}

void split_rows(void* context, int64_t begin, int64_t end) {
    const auto& product = *static_cast<const WideProduct*>(context);
    for (int64_t row = begin; row < end; ++row) {
        tiles::split_row(product, row);
    }
}

void multiply_groups(void* context, int64_t begin, int64_t end) {
    const auto& product = *static_cast<const WideProduct*>(context);
    thread_local Room room;
    uint16_t* packed = room.take(2 * (product.group + 32) * product.depth);
    for (int64_t group = begin; group < end; ++group) {
        const int64_t first = group * product.group;
        tiles::multiply_group(product, first, std::min(first + product.group, product.rows), packed);
    }
}

#else

bool has_tiles() { return false; }

#endif

// Some eight shares of the outputs for the threads, but no more of them at once than the second-level cache holds.
int64_t outputs_at_once(int64_t rows, int64_t depth) {
    constexpr int64_t CACHE = 1 << 19;  // bytes of packed weights, four a weight
    const int64_t most = std::max<int64_t>(32, CACHE / (4 * depth) / 32 * 32);
    return std::max<int64_t>(32, std::min(most, rows / 8 / 32 * 32));
}

}  // namespace
}  // namespace nomoat

// Whether nm_matmul_wide may be called on this machine.
NM_EXPORT int nm_has_wide() { return nomoat::has_tiles() ? 1 : 0; }

// y (m, rows) = x (m, cols) . W^T for stored W; x and y without gaps. Returns 0, or 1 for arguments that cannot be.
NM_EXPORT int nm_matmul_wide(int threads, int ggml_id, const uint8_t* data, int64_t rows, int64_t cols,
                             int64_t row_stride, const float* x, int64_t m, float* y) {
    const nomoat::BlockType* type = nomoat::find_type(ggml_id);
    if (type == nullptr || !nomoat::has_tiles() || rows < 0 || cols < 0 || cols % type->block_size != 0 || m < 0) {
        return 1;
    }
#if NM_WIDE
    const int64_t depth = (cols + 31) / 32 * 32, padded = (m + 31) / 32 * 32;
    thread_local nomoat::Room room;
    const int64_t group = nomoat::outputs_at_once(rows, std::max<int64_t>(32, depth));
    nomoat::WideProduct product = {nomoat::best_up_to(2).expanders[type->index], type->block_size, type->type_size,
                                   data, rows, cols, row_stride, x, m, depth, room.take(2 * padded * depth), y, group};
    nomoat::parallel_for(threads, padded, 16, nomoat::split_rows, &product);
    nomoat::parallel_for(threads, (rows + group - 1) / group, 1, nomoat::multiply_groups, &product);
#else
    (void)threads, (void)data, (void)row_stride, (void)x, (void)y;
#endif
    return 0;
}
