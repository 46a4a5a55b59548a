// The searches of src/nomoat/formats/fit.py, W runs of weights at a time, one in each lane: the same operations in the
// same order, each rounded by itself, so the bits are those of the twin. Included once per instruction set.

#include "floats.inl"

static inline Floats inverse(Floats v) { return where_less(all(0.0f), size(v), div(all(1.0f), v), all(0.0f)); }

// The runs from `first` on, one in each lane: R rows of W floats. Lanes after the last run hold it again.
template <int R>
static inline void turned(const float* from, int64_t first, int64_t runs, Floats* out) {
    alignas(64) float lanes[R * W];
    for (int64_t lane = 0; lane < W; ++lane) {
        const float* run = from + (first + lane < runs ? first + lane : runs - 1) * R;
        for (int64_t i = 0; i < R; ++i) {
            lanes[i * W + lane] = run[i];
        }
    }
    for (int64_t i = 0; i < R; ++i) {
        out[i] = load(lanes + i * W);
    }
}

// The sum of N values, halves added to each other until one is left; `values` are used up.
template <int N>
static inline Floats folded(Floats* values) {
    for (int half = N / 2; half > 0; half /= 2) {
        for (int i = 0; i < half; ++i) {
            values[i] = add(values[i], values[i + half]);
        }
    }
    return values[0];
}

static inline Floats rounded(Floats v, Floats least, Floats most) { return lesser(greater(whole(v), least), most); }

template <int R>
static void best_scale_runs(const ScaleSearch& job, int64_t begin, int64_t end) {
    const Floats zero = all(0.0f), least = all(-job.levels), most = all(job.levels - 1.0f);
    for (int64_t first = begin; first < end; first += W) {
        Floats x[R], weights[R], weighted[R], xq_parts[R], qq_parts[R];
        turned<R>(job.x, first, job.runs, x);
        turned<R>(job.weights, first, job.runs, weights);
        Floats peak = x[0];
        for (int i = 0; i < R; ++i) {
            peak = where_less(size(peak), size(x[i]), x[i], peak);
            weighted[i] = mul(x[i], weights[i]);
        }
        const Floats inverse_peak = sub(zero, inverse(peak));
        Floats scale = zero, best = zero;
        for (int64_t c = 0; c < job.candidates; ++c) {
            const Floats to_whole = mul(inverse_peak, all(job.factors[c]));
            for (int i = 0; i < R; ++i) {
                const Floats q = rounded(mul(x[i], to_whole), least, most);
                xq_parts[i] = mul(weighted[i], q);
                qq_parts[i] = mul(mul(q, weights[i]), q);
            }
            const Floats xq = folded<R>(xq_parts), inverse_qq = inverse(folded<R>(qq_parts));
            const Floats gain = mul(mul(xq, xq), inverse_qq);
            scale = where_less(best, gain, mul(xq, inverse_qq), scale);
            best = where_less(best, gain, gain, best);
        }
        put(job.scale + first, scale, end - first);
    }
}

// Weighted least squares from weighted sums; see _line in fit.py.
struct Line {
    Floats slope, shift, error;
};

static inline Line line(Floats w, Floats x, Floats q, Floats qq, Floats xq) {
    const Floats zero = all(0.0f), two = all(2.0f);
    const Floats spread = sub(mul(w, qq), mul(q, q)), divisor = inverse(spread);
    const Floats slope = mul(sub(mul(w, xq), mul(x, q)), divisor), shift = mul(sub(mul(qq, x), mul(q, xq)), divisor);
    const Floats least_spread = mul(mul(all(1e-5f), w), qq), through_zero = mul(xq, inverse(qq));
    const Floats free_slope = where_less(zero, shift, through_zero, slope);
    const Floats free_shift = where_less(zero, shift, zero, shift);
    Line out;
    out.slope = where_less(least_spread, spread, free_slope, through_zero);
    out.shift = where_less(least_spread, spread, free_shift, zero);
    const Floats squares = add(mul(mul(out.slope, out.slope), qq), mul(mul(out.shift, out.shift), w));
    const Floats cross = mul(mul(mul(two, out.slope), out.shift), q);
    out.error = sub(sub(add(squares, cross), mul(mul(two, out.slope), xq)), mul(mul(two, out.shift), x));
    return out;
}

template <int R>
static void best_line_runs(const LineSearch& job, int64_t begin, int64_t end) {
    const Floats zero = all(0.0f), two = all(2.0f), most = all(job.top);
    for (int64_t first = begin; first < end; first += W) {
        Floats x[R], weights[R], weighted[R], parts[R], qq_parts[R], xq_parts[R];
        turned<R>(job.x, first, job.runs, x);
        turned<R>(job.weights, first, job.runs, weights);
        Floats low = zero;
        for (int i = 0; i < R; ++i) {
            low = lesser(x[i], low);
            parts[i] = weights[i];
            weighted[i] = xq_parts[i] = mul(x[i], weights[i]);
        }
        const Floats w = folded<R>(parts), wx = folded<R>(xq_parts);
        Floats highest = zero;
        for (int i = 0; i < R; ++i) {
            x[i] = sub(x[i], low);  // from here on above the lowest
            highest = greater(x[i], highest);
        }
        const Floats spread = inverse(highest);
        Floats scale = zero, offset = low;
        Floats best = sub(mul(mul(low, low), w), mul(mul(two, low), wx));
        for (int64_t c = 0; c < job.candidates; ++c) {
            const Floats to_whole = mul(spread, all(job.factors[c]));
            for (int i = 0; i < R; ++i) {
                const Floats q = rounded(mul(x[i], to_whole), zero, most);
                parts[i] = mul(q, weights[i]);
                qq_parts[i] = mul(parts[i], q);
                xq_parts[i] = mul(weighted[i], q);
            }
            const Line found = line(w, wx, folded<R>(parts), folded<R>(qq_parts), folded<R>(xq_parts));
            scale = where_less(found.error, best, found.slope, scale);
            offset = where_less(found.error, best, found.shift, offset);
            best = where_less(found.error, best, found.error, best);
        }
        put(job.scale + first, scale, end - first);
        put(job.offset + first, offset, end - first);
    }
}

static const FitKernels kernels = {best_scale_runs<16>, best_scale_runs<32>, best_line_runs<32>};
