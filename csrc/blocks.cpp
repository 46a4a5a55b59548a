// The C functions that Python calls: stored blocks to float32, and products with stored blocks.
//
// The kernels are compiled three times, for AVX-512, for AVX2 and for any machine, and chosen at run time; few.cpp and
// few_limbs.cpp have products for machines with tiles and with eight-bit integers. All three give the same bits in
// nm_expand: every operation is rounded by itself (-ffp-contract=off). Only the sums of nm_matmul_small use fused
// multiply-add where the machine has it, or integers.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "few.h"
#include "kernels.h"
#include "pool.h"

namespace nomoat {
namespace {

constexpr int ABI = 10;
constexpr int64_t PIECE = 1024;               // weights expanded at a time: 4 KiB, a multiple of every block
constexpr int64_t WEIGHTS_PER_CHUNK = 32768;  // what a thread takes at a time: some ten microseconds of work

constexpr BlockType TYPES[] = {
    {0, 0, 1, 4},      // F32
    {1, 1, 1, 2},      // F16
    {2, 30, 1, 2},     // BF16
    {3, 2, 32, 18},    // Q4_0
    {4, 3, 32, 20},    // Q4_1
    {5, 6, 32, 22},    // Q5_0
    {6, 7, 32, 24},    // Q5_1
    {7, 8, 32, 34},    // Q8_0
    {8, 20, 32, 18},   // IQ4_NL
    {9, 10, 256, 84},  // Q2_K
    {10, 11, 256, 110},  // Q3_K
    {11, 12, 256, 144},  // Q4_K
    {12, 13, 256, 176},  // Q5_K
    {13, 14, 256, 210},  // Q6_K
    {14, 23, 256, 136},  // IQ4_XS
};

namespace portable {
#define NM_VECTOR 0
#include "kernels.inl"
#undef NM_VECTOR
}  // namespace portable

#if NM_X86

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,f16c")
#endif
namespace avx2 {
#define NM_VECTOR 256
#include "kernels.inl"
#undef NM_VECTOR
}  // namespace avx2
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx2,fma,f16c,prefer-vector-width=512")
#endif
namespace avx512 {
#define NM_VECTOR 512
#include "kernels.inl"
#undef NM_VECTOR
}  // namespace avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // NM_X86

#define NM_SET(NAME) \
    {#NAME, NAME::expanders, NAME::matmul_rows, NAME::rms_norm, NAME::gate, NAME::attend, nullptr}
constexpr InstructionSet PORTABLE = NM_SET(portable);

struct Expansion {
    const BlockType* type;
    Expand expand;
    const uint8_t* data;
    int64_t cols, row_stride;
    float* out;
};

void expand_rows(void* context, int64_t begin, int64_t end) {
    const Expansion& job = *static_cast<const Expansion*>(context);
    for (int64_t r = begin; r < end; ++r) {
        job.expand(job.data + r * job.row_stride, job.cols / job.type->block_size, job.out + r * job.cols);
    }
}

struct ProductJob {
    Product product;
    const InstructionSet& isa;
};

void product_rows(void* context, int64_t begin, int64_t end) {
    const ProductJob& job = *static_cast<const ProductJob*>(context);
    multiply(job.isa, job.product, begin, end);
}

}  // namespace

InstructionSet best_up_to(int number) {
#if NM_X86
    if (number >= 2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("f16c")) {
        InstructionSet set = NM_SET(avx512);
        set.few = few_in_limbs();
        if (number >= 3 && few_on_tiles() != nullptr) {
            set.name = "amx";
            set.few = few_on_tiles();
        }
        return set;
    }
    if (number >= 1 && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("f16c")) {
        return NM_SET(avx2);
    }
#else
    (void)number;
#endif
    return PORTABLE;
}
#undef NM_SET

const BlockType* find_type(int64_t ggml_id) {
    for (const BlockType& type : TYPES) {
        if (type.ggml_id == ggml_id) {
            return &type;
        }
    }
    return nullptr;
}

int64_t rows_per_chunk(int64_t cols) { return std::max<int64_t>(1, WEIGHTS_PER_CHUNK / std::max<int64_t>(1, cols)); }

}  // namespace nomoat

// Changes when a signature below does; Python refuses a library with another number.
NM_EXPORT int nm_abi() { return nomoat::ABI; }

// The name of the instruction set that `set` (0 to 3, see best_up_to) means on this machine.
NM_EXPORT const char* nm_instruction_set(int set) { return nomoat::best_up_to(set).name; }

// Stored rows -> out, float32 (rows, cols) without gaps. Returns 0, or 1 for arguments that cannot be.
NM_EXPORT int nm_expand(int set, int threads, int ggml_id, const uint8_t* data, int64_t rows, int64_t cols,
                        int64_t row_stride, float* out) {
    const nomoat::BlockType* type = nomoat::find_type(ggml_id);
    if (type == nullptr || rows < 0 || cols < 0 || cols % type->block_size != 0) {
        return 1;
    }
    nomoat::Expansion job = {type, nomoat::best_up_to(set).expanders[type->index], data, cols, row_stride, out};
    nomoat::parallel_for(threads, rows, nomoat::rows_per_chunk(cols), nomoat::expand_rows, &job);
    return 0;
}

// y (m, rows) = x (m, cols) . W^T for stored W and m <= 16; x and y without gaps. Returns 0, or 1 as above.
NM_EXPORT int nm_matmul_small(int set, int threads, int ggml_id, const uint8_t* data, int64_t rows, int64_t cols,
                              int64_t row_stride, const float* x, int64_t m, float* y) {
    const nomoat::BlockType* type = nomoat::find_type(ggml_id);
    if (type == nullptr || rows < 0 || cols < 0 || cols % type->block_size != 0 || m < 0 || m > nomoat::MAX_ROWS) {
        return 1;
    }
    const nomoat::InstructionSet isa = nomoat::best_up_to(set);
    nomoat::ProductJob job = {{type, data, rows, cols, row_stride, x, m, y, rows, false}, isa};
    int64_t chunk = nomoat::rows_per_chunk(cols);
    if (isa.few != nullptr && m > 0 && isa.few->takes(*type, rows)) {
        thread_local nomoat::Split split;
        split.fill(*isa.few, x, m, cols);
        job.product.split = split.from(0);
        chunk = nomoat::FEW_ROWS_PER_CHUNK;
    }
    nomoat::parallel_for(threads, rows, chunk, nomoat::product_rows, &job);
    return 0;
}
