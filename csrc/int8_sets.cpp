// The int8 kernels compiled for every instruction set, and the choice between them at run time.

#include <algorithm>
#include <cstring>
#include <limits>

#include "amx.h"
#include "int8.h"

// Products of four bytes at a time came with Armv8.2. A wheel for Linux must run without them, so there they are chosen
// at run time; every Mac has them, and its compiler says so.
#if defined(__aarch64__) && defined(__ARM_FEATURE_DOTPROD)
#define NM_ARM_DOT 1
#include <arm_neon.h>
#elif defined(__aarch64__) && defined(__linux__) && defined(__GNUC__) && !defined(__clang__)
#define NM_ARM_DOT 2
#include <arm_neon.h>
#include <sys/auxv.h>
#else
#define NM_ARM_DOT 0
#endif

namespace nomoat {
namespace {

namespace int8_portable {
#define NM_INT8 0
#include "int8_vectors.inl"
#include "int8_product.inl"
#include "int8_rows.inl"
#undef NM_INT8
}  // namespace int8_portable

#if NM_X86

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace int8_avx2 {
#define NM_INT8 256
#include "int8_vectors.inl"
#include "int8_product.inl"
#include "int8_rows.inl"
#undef NM_INT8
}  // namespace int8_avx2
namespace int8_avx_vnni {
#define NM_INT8 257
#include "int8_vectors.inl"
#include "int8_product.inl"
#include "int8_rows.inl"
#undef NM_INT8
}  // namespace int8_avx_vnni
#if defined(__clang__)
#pragma clang attribute pop
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma"))), \
                             apply_to = function)
#else
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,prefer-vector-width=512")
#endif
namespace int8_avx512 {
#define NM_INT8 512
#include "int8_vectors.inl"
#include "int8_product.inl"
#include "int8_rows.inl"
#undef NM_INT8
}  // namespace int8_avx512
#if NM_AMX
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("amx-tile,amx-int8"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("amx-tile,amx-int8")
#endif
namespace int8_amx {
#define NM_INT8 1024
#include "int8_vectors.inl"
#include "tile_config.inl"
#include "int8_tiles.inl"
#include "int8_product.inl"
#include "int8_rows.inl"
#undef NM_INT8
}  // namespace int8_amx
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif  // NM_AMX
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

// CPUID leaf 7, subleaf 1, EAX bit 4.
bool has_avx_vnni() { return cpuid(0, 0).a >= 7 && cpuid(7, 0).a >= 1 && (cpuid(7, 1).a >> 4 & 1) != 0; }

#endif  // NM_X86

#if NM_ARM_DOT

#if NM_ARM_DOT == 2
#pragma GCC push_options
#pragma GCC target("arch=armv8.2-a+dotprod")
#endif
namespace int8_neon {
#define NM_INT8 128
#include "int8_vectors.inl"
#include "int8_product.inl"
#include "int8_rows.inl"
#undef NM_INT8
}  // namespace int8_neon
#if NM_ARM_DOT == 2
#pragma GCC pop_options
#endif

bool has_arm_dot() {
#if NM_ARM_DOT == 2
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
    return true;
#endif
}

#endif  // NM_ARM_DOT

}  // namespace

Int8Set int8_up_to(int number) {
#if NM_X86
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
                        __builtin_cpu_supports("avx512vnni");
#if NM_AMX
    if (number >= 4 && avx512 && has_int8_tiles()) {
        return {"amx", int8_amx::TILE_ROWS, int8_amx::quantize_row, int8_amx::multiply_panel};
    }
#endif
    if (number >= 3 && avx512) {
        return {"avx512", int8_avx512::TILE_ROWS, int8_avx512::quantize_row, int8_avx512::multiply_panel};
    }
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (number >= 2 && avx2 && has_avx_vnni()) {
        return {"avx-vnni", int8_avx_vnni::TILE_ROWS, int8_avx_vnni::quantize_row, int8_avx_vnni::multiply_panel};
    }
    if (number >= 1 && avx2) {
        return {"avx2", int8_avx2::TILE_ROWS, int8_avx2::quantize_row, int8_avx2::multiply_panel};
    }
#elif NM_ARM_DOT
    if (number >= 1 && has_arm_dot()) {
        return {"neon-dot", int8_neon::TILE_ROWS, int8_neon::quantize_row, int8_neon::multiply_panel};
    }
#else
    (void)number;
#endif
    return {"portable", int8_portable::TILE_ROWS, int8_portable::quantize_row, int8_portable::multiply_panel};
}

}  // namespace nomoat
