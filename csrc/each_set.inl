// Compiles NM_BODY once for each instruction set of this processor family: in namespace portable with NM_VECTOR 0, and on
// x86 also in avx2 (256) and avx512 (512). Each body ends with its `kernels` of the type NM_KERNELS, among which
// kernels_of chooses. The bodies call nothing from the standard library: an inline function of it, compiled here for
// AVX-512, could be the copy that the linker keeps for everybody.

namespace portable {
#define NM_VECTOR 0
#include NM_BODY
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
#include NM_BODY
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
#include NM_BODY
#undef NM_VECTOR
}  // namespace avx512
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#endif  // NM_X86

// The kernels of the best instruction set up to `set` that this machine has.
const NM_KERNELS& kernels_of(int set) {
#if NM_X86
    const int usable = usable_set(set);
    if (usable == 2) {
        return avx512::kernels;
    }
    if (usable == 1) {
        return avx2::kernels;
    }
#else
    (void)set;
#endif
    return portable::kernels;
}
