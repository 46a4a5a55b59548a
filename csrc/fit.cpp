// The scale, or scale and offset, with which a run of weights is best written in small whole numbers: what quantizing to
// K types spends its time on. The twin, to the bit, is src/nomoat/formats/fit.py, which says what is searched for.

#include <cstdint>

#include "platform.h"
#include "pool.h"

namespace nomoat {
namespace {

constexpr int64_t RUNS_PER_CHUNK = 64;  // what a thread takes at a time, whole vectors of runs on every processor

// x and weights (runs, R) without gaps; `factors` (candidates,): how many levels the peak is spread over in each try.
struct ScaleSearch {
    const float *x, *weights, *factors;
    int64_t runs, candidates;
    float levels;
    float* scale;  // (runs,)
};

struct LineSearch {
    const float *x, *weights, *factors;
    int64_t runs, candidates;
    float top;
    float *scale, *offset;
};

// By the length of a run.
struct FitKernels {
    void (*best_scale_16)(const ScaleSearch&, int64_t, int64_t);
    void (*best_scale_32)(const ScaleSearch&, int64_t, int64_t);
    void (*best_line_32)(const LineSearch&, int64_t, int64_t);
};

#define NM_BODY "fit.inl"
#define NM_KERNELS FitKernels
#include "each_set.inl"
#undef NM_KERNELS
#undef NM_BODY

}  // namespace
}  // namespace nomoat

// Both return 1, and do nothing, for runs of a length that they do not take.
NM_EXPORT int nm_best_scale(int set, int threads, const float* x, const float* weights, int64_t runs, int64_t length,
                            const float* factors, int64_t candidates, float levels, float* scale) {
    const nomoat::FitKernels& kernels = nomoat::kernels_of(set);
    if (length != 16 && length != 32) {
        return 1;
    }
    const nomoat::ScaleSearch job = {x, weights, factors, runs, candidates, levels, scale};
    const auto search = length == 16 ? kernels.best_scale_16 : kernels.best_scale_32;
    nomoat::parallel_over(threads, runs, nomoat::RUNS_PER_CHUNK, job, search);
    return 0;
}

NM_EXPORT int nm_best_line(int set, int threads, const float* x, const float* weights, int64_t runs, int64_t length,
                           const float* factors, int64_t candidates, float top, float* scale, float* offset) {
    if (length != 32) {
        return 1;
    }
    const nomoat::LineSearch job = {x, weights, factors, runs, candidates, top, scale, offset};
    nomoat::parallel_over(threads, runs, nomoat::RUNS_PER_CHUNK, job, nomoat::kernels_of(set).best_line_32);
    return 0;
}
