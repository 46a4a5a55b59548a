// The operations between the products, some rows at a time. Included once per instruction set; see glue.cpp for the
// shapes.

#include "floats.inl"

// h = x + alpha * added where something is added, y = h / rms(h) * weight.
static void rms_norm_rows(const RmsNorm& job, int64_t begin, int64_t end) {
    const int64_t d = job.columns;
    for (int64_t r = begin; r < end; ++r) {
        const float* h = job.x + r * d;
        if (job.added != nullptr) {
            float* total = job.total + r * d;
            const float* added = job.added + r * d;
            for (int64_t i = 0; i < d; i += W) {
                put(total + i, fma(all(job.alpha), at(added + i, d - i), at(h + i, d - i)), d - i);
            }
            h = total;
        }
        const float inverse = 1.0f / sqrtf(dot(h, h, d) / static_cast<float>(d) + job.eps);
        job.inverse[r] = inverse;
        float* y = job.y + r * d;
        for (int64_t i = 0; i < d; i += W) {
            put(y + i, mul(mul(at(h + i, d - i), all(inverse)), at(job.weight + i, d - i)), d - i);
        }
    }
}

// out = beyond + inverse * (s - h * mean(s h) * inverse^2) with s = grad * weight.
static void rms_norm_back_rows(const RmsNormBack& job, int64_t begin, int64_t end) {
    const int64_t d = job.columns;
    for (int64_t r = begin; r < end; ++r) {
        const float *grad = job.grad + r * d, *h = job.h + r * d;
        Floats s0 = all(0), s1 = all(0);
        for (int64_t i = 0; i < d; i += 2 * W) {
            const int64_t left = d - i, rest = left - W;
            s0 = fma(mul(at(grad + i, left), at(job.weight + i, left)), at(h + i, left), s0);
            if (rest > 0) {
                const int64_t j = i + W;
                s1 = fma(mul(at(grad + j, rest), at(job.weight + j, rest)), at(h + j, rest), s1);
            }
        }
        const float inverse = job.inverse[r];
        const float along = sum(add(s0, s1)) / static_cast<float>(d) * inverse * inverse;
        float* out = job.out + r * d;
        for (int64_t i = 0; i < d; i += W) {
            const int64_t left = d - i;
            const Floats scaled = mul(at(grad + i, left), at(job.weight + i, left));
            Floats v = mul(fma(at(h + i, left), all(-along), scaled), all(inverse));
            if (job.beyond != nullptr) {
                v = add(v, at(job.beyond + r * d + i, left));
            }
            put(out + i, v, left);
        }
    }
}

// Pairs (i, i + half) of each head turned by the token's angles, back where `turn` is -1; the rest copied.
static void rotate_tokens(const Rotate& job, int64_t begin, int64_t end) {
    const int64_t half = job.half, width = job.width;
    for (int64_t t = begin; t < end; ++t) {
        const float *cosine = job.cosine + t * half, *sine = job.sine + t * half;
        for (int64_t h = 0; h < job.heads; ++h) {
            const float* x = job.x + t * job.x_stride + h * width;
            float* out = job.out + (t * job.heads + h) * width;
            for (int64_t i = 0; i < half; i += W) {
                const int64_t left = half - i;
                const Floats c = at(cosine + i, left), s = mul(at(sine + i, left), all(job.turn));
                const Floats a = at(x + i, left), b = at(x + half + i, left);
                put(out + i, sub(mul(a, c), mul(b, s)), left);
                put(out + half + i, add(mul(b, c), mul(a, s)), left);
            }
            for (int64_t i = 2 * half; i < width; i += W) {
                put(out + i, at(x + i, width - i), width - i);
            }
        }
    }
}

// The sigmoid that either activation is x times of, and its argument's slope: GELU's tanh form is
// x sigmoid(2 u), u = sqrt(2 / pi) (x + 0.044715 x^3).
static inline Floats gate_of(Floats x, int activation, Floats* slope) {
    if (activation == 0) {
        *slope = all(1.0f);
        return sigmoid(x);
    }
    const Floats square = mul(x, x);
    *slope = fma(square, all(6.0f * 0.0356774081f), all(2.0f * 0.7978845608f));
    return sigmoid(mul(x, fma(square, all(2.0f * 0.0356774081f), all(2.0f * 0.7978845608f))));
}

static void gated_rows(const Gated& job, int64_t begin, int64_t end) {
    const int64_t f = job.columns;
    for (int64_t r = begin; r < end; ++r) {
        const float *gate = job.gate + r * job.gate_stride, *up = job.up + r * job.up_stride;
        float* out = job.out + r * f;
        for (int64_t i = 0; i < f; i += W) {
            Floats slope;
            const Floats x = at(gate + i, f - i), s = gate_of(x, job.activation, &slope);
            put(out + i, mul(mul(x, s), at(up + i, f - i)), f - i);
        }
    }
}

// Gradients of gate and up; may overwrite them.
static void gated_back_rows(const GatedBack& job, int64_t begin, int64_t end) {
    const int64_t f = job.columns;
    for (int64_t r = begin; r < end; ++r) {
        const float *gate = job.gate + r * job.gate_stride, *up = job.up + r * job.up_stride;
        const float* grad = job.grad + r * f;
        float *grad_gate = job.grad_gate + r * job.grad_gate_stride, *grad_up = job.grad_up + r * job.grad_up_stride;
        for (int64_t i = 0; i < f; i += W) {
            const int64_t left = f - i;
            Floats slope;
            const Floats x = at(gate + i, left), s = gate_of(x, job.activation, &slope), g = at(grad + i, left);
            const Floats bend = mul(mul(x, slope), sub(all(1.0f), s));
            const Floats into_gate = mul(mul(fma(s, bend, s), at(up + i, left)), g);
            put(grad_up + i, mul(mul(x, s), g), left);
            put(grad_gate + i, into_gate, left);
        }
    }
}

static void adamw_pieces(const AdamW& job, int64_t begin, int64_t end) {
    for (int64_t p = begin; p < end; ++p) {
        const AdamWPiece& piece = job.pieces[p];
        const Floats keep = all(piece.decay), step = all(-piece.step), eps = all(job.eps);
        const Floats to_grad = all(job.to_grad), beta2 = all(job.beta2), to_square = all(job.to_square);
        const Floats bias = all(job.square_bias_root);
        for (int64_t i = 0; i < piece.count; i += W) {
            const int64_t left = piece.count - i;
            const Floats g = at(piece.grad + i, left);
            const Floats m0 = at(piece.mean + i, left);
            const Floats m = fma(to_grad, sub(g, m0), m0);
            const Floats v = fma(mul(to_square, g), g, mul(at(piece.square + i, left), beta2));
            put(piece.mean + i, m, left);
            put(piece.square + i, v, left);
            const Floats bottom = add(div(root(v), bias), eps);
            const Floats value = mul(at(piece.value + i, left), keep);
            put(piece.value + i, add(value, div(mul(step, m), bottom)), left);
        }
    }
}

static const GlueKernels kernels = {rms_norm_rows, rms_norm_back_rows, rotate_tokens,
                                    gated_rows,    gated_back_rows,    adamw_pieces};
