// What Python hands to the decode step: addresses and sizes. src/nomoat/kernels/decode.py mirrors every structure field
// by field, which is why every field is eight bytes wide. Nothing here owns memory.

#pragma once

#include <cstdint>

namespace nomoat {

struct Matrix {  // (rows, cols) in blocks
    const uint8_t* data;
    int64_t ggml_id, rows, cols, row_stride;
    const float* bias;  // (rows,) or null
};

enum Part { Q, K, V, O, GATE, UP, DOWN, N_PARTS };

struct Layer {
    Matrix parts[N_PARTS];
    const float *before_attention, *after_attention, *before_mlp, *after_mlp;  // norm weights (d_model,), null: no norm
    const float *q_norm, *k_norm;
    int64_t window;  // 0: sees everything
    int64_t rope;    // which pair of angle tables, -1: none
};

enum HeadNorm { NO_NORM, EACH_HEAD, ALL_HEADS };

struct Model {
    const Layer* layers;
    const float* last_norm;
    int64_t n_layers, d_model, n_heads, n_kv_heads, head_dim, d_ff, head_norm, gelu;
    double norm_eps, softmax_scale, softcap, residual_scale;
};

struct Lora {  // adds b . (a . x) * scaling + bias
    const float *a, *b;  // (rank, cols), (rows, rank); null: nothing at this matrix
    int64_t rank;
    double scaling;
    const float* bias;  // (rows,) or null
};

struct Worn {
    const Lora* loras;  // (n_layers, N_PARTS)
    double strength;
};

struct Run {  // consecutive rows that wear the same adapters
    int64_t rows, n_worn;
    const Worn* worn;
};

struct Angles {  // (rows, half) each
    const float *cosine, *sine;
    int64_t half;
};

struct Step {
    int64_t rows;
    float* x;  // (rows, d_model): embeddings
    float* out;  // (rows, d_model): hidden states after the last norm
    const int64_t* const* places;  // (rows,): where each row's tokens are in the cache, up to its own
    const int64_t* positions;      // (rows,)
    float *keys, *values;  // (n_layers, n_tokens, n_kv_heads, head_dim)
    int64_t layer_stride;  // floats
    const Angles* angles;
    const Run* runs;
    int64_t n_runs;
};

}  // namespace nomoat
