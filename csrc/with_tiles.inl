// Compiles NM_BODY for processors with AMX tiles of bfloat16, in namespace tiles.

#if defined(__clang__)
#pragma clang attribute push( \
    __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16,amx-tile,amx-bf16")
#endif
namespace tiles {
#include NM_BODY
}  // namespace tiles
#if defined(__clang__)
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
