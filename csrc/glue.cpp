// The operations between the matrix products, forward and backward: norm with the residual addition before it, rotary
// embedding, gated activation, and the optimiser's update. Every row is worked on alone, so no result depends on the
// number of threads.

#include <algorithm>
#include <cstdint>

#include "platform.h"
#include "pool.h"

namespace nomoat {
namespace {

constexpr int64_t FLOATS_PER_CHUNK = 16384;  // what a thread takes at a time

// All matrices (rows, columns) without gaps. `added` and `total` are null where nothing is added.
struct RmsNorm {
    const float *x, *added, *weight;
    float alpha, eps;
    int64_t rows, columns;
    float *total, *y, *inverse;  // inverse: (rows,)
};

// `beyond`: the gradient that reaches h from elsewhere, or null.
struct RmsNormBack {
    const float *grad, *h, *inverse, *weight, *beyond;
    int64_t rows, columns;
    float* out;
};

// x (tokens, heads, width), tokens x_stride floats apart; cosine and sine (tokens, half).
struct Rotate {
    const float* x;
    int64_t tokens, heads, width, x_stride, half;
    const float *cosine, *sine;
    float turn;  // 1, or -1 to turn back
    float* out;
};

// activation: 0 silu, 1 GELU in its tanh form. Strides in floats.
struct Gated {
    int activation;
    const float *gate, *up;
    int64_t rows, columns, gate_stride, up_stride;
    float* out;
};

struct GatedBack {
    int activation;
    const float *gate, *up, *grad;
    int64_t rows, columns, gate_stride, up_stride;
    float *grad_gate, *grad_up;
    int64_t grad_gate_stride, grad_up_stride;
};

struct AdamWPiece {
    float *value, *mean, *square;
    const float* grad;
    int64_t count;
    float step, decay;  // step: rate over the first moment's bias; decay: what the value is multiplied with
};

struct AdamW {
    const AdamWPiece* pieces;
    float to_grad, beta2, to_square, square_bias_root, eps;
};

struct GlueKernels {
    void (*rms_norm)(const RmsNorm&, int64_t, int64_t);
    void (*rms_norm_back)(const RmsNormBack&, int64_t, int64_t);
    void (*rotate)(const Rotate&, int64_t, int64_t);
    void (*gated)(const Gated&, int64_t, int64_t);
    void (*gated_back)(const GatedBack&, int64_t, int64_t);
    void (*adamw)(const AdamW&, int64_t, int64_t);
};

#define NM_BODY "glue.inl"
#define NM_KERNELS GlueKernels
#include "each_set.inl"
#undef NM_KERNELS
#undef NM_BODY

// Rows of a job on the pool.
template <typename T>
void run(int threads, int64_t rows, int64_t columns, const T& job, void (*work)(const T&, int64_t, int64_t)) {
    const int64_t chunk = std::max<int64_t>(1, FLOATS_PER_CHUNK / std::max<int64_t>(1, columns));
    parallel_over(threads, rows, chunk, job, work);
}

}  // namespace
}  // namespace nomoat

using nomoat::kernels_of;

NM_EXPORT void nm_rms_norm(int set, int threads, const float* x, const float* added, float alpha, const float* weight,
                           float eps, int64_t rows, int64_t columns, float* total, float* y, float* inverse) {
    const nomoat::RmsNorm job = {x, added, weight, alpha, eps, rows, columns, total, y, inverse};
    nomoat::run(threads, rows, columns, job, kernels_of(set).rms_norm);
}

NM_EXPORT void nm_rms_norm_back(int set, int threads, const float* grad, const float* h, const float* inverse,
                                const float* weight, const float* beyond, int64_t rows, int64_t columns, float* out) {
    const nomoat::RmsNormBack job = {grad, h, inverse, weight, beyond, rows, columns, out};
    nomoat::run(threads, rows, columns, job, kernels_of(set).rms_norm_back);
}

NM_EXPORT void nm_rotate(int set, int threads, const float* x, int64_t tokens, int64_t heads, int64_t width,
                         int64_t x_stride, int64_t half, const float* cosine, const float* sine, float turn,
                         float* out) {
    const nomoat::Rotate job = {x, tokens, heads, width, x_stride, half, cosine, sine, turn, out};
    nomoat::run(threads, tokens, heads * width, job, kernels_of(set).rotate);
}

NM_EXPORT void nm_gated(int set, int threads, int activation, const float* gate, const float* up, int64_t rows,
                        int64_t columns, int64_t gate_stride, int64_t up_stride, float* out) {
    const nomoat::Gated job = {activation, gate, up, rows, columns, gate_stride, up_stride, out};
    nomoat::run(threads, rows, columns, job, kernels_of(set).gated);
}

NM_EXPORT void nm_gated_back(int set, int threads, int activation, const float* gate, const float* up,
                             const float* grad, int64_t rows, int64_t columns, int64_t gate_stride, int64_t up_stride,
                             float* grad_gate, float* grad_up, int64_t grad_gate_stride, int64_t grad_up_stride) {
    const nomoat::GatedBack job = {activation, gate,      up,      grad,   rows, columns, gate_stride, up_stride,
                                   grad_gate,  grad_up, grad_gate_stride, grad_up_stride};
    nomoat::run(threads, rows, columns, job, kernels_of(set).gated_back);
}

// One AdamW update of `count` pieces; the options are algorithm 2 of Loshchilov and Hutter (2019) as glue_native.py
// prepares them.
NM_EXPORT void nm_adamw(int set, int threads, const nomoat::AdamWPiece* pieces, int64_t count, float to_grad,
                        float beta2, float to_square, float square_bias_root, float eps) {
    const nomoat::AdamW job = {pieces, to_grad, beta2, to_square, square_bias_root, eps};
    nomoat::run(threads, count, nomoat::FLOATS_PER_CHUNK, job, kernels_of(set).adamw);
}
