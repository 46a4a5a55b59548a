// Everything that is compiled once per instruction set.

#include "small.inl"

#include "blocks32.inl"
#include "blocks256.inl"
#if NM_VECTOR == 512
#include "blocks512.inl"
#endif

// In the order of TYPES in blocks.cpp.
static const Expand expanders[] = {
    expand_f32,  expand_f16,  expand_bf16, expand_q4_0, expand_q4_1, expand_q5_0, expand_q5_1, expand_q8_0,
    expand_iq4_nl, expand_q2_k, expand_q3_k, expand_q4_k, expand_q5_k, expand_q6_k, expand_iq4_xs,
};

#include "dot.inl"
#include "rows.inl"
