// What the files of attention share: the job, a document, and the scratch of a task.

#pragma once

#include <cstdint>

namespace nomoat {

constexpr int64_t QUERIES = 60;  // of a tile: ten times the six rows that the products work on
constexpr int64_t KEYS = 64;
constexpr int64_t WIDEST = 16;     // floats of the widest vector
constexpr int64_t TILE_DEPTH = 32;  // numbers that tiles of bfloat16 take at a time

// T tokens, H query heads, K key-value heads, C floats of a head. Strides: floats from token to token.
struct Attention {
    const float *q, *k, *v;  // (T, H, C), (T, K, C) x 2
    int64_t q_stride, k_stride, v_stride, heads, kv_heads, width;
    float scale, softcap;  // softcap 0: none
    int64_t window;        // 0: none
    float *out, *peaks;    // (T, H, C), and of each token and head the largest score and 1 / sum e^(score - largest)
};

struct Document {
    int64_t start, length;  // of its keys and values
    int64_t query, before;  // the row of its first query, and how many keys stand before that one's own
};

// Scratch for one task: what a document's keys and values need, then tiles. `padded` is C up to whole vectors.
struct Room {
    int64_t padded;
    float *keys_across, *values_across, *keys, *values, *grad_keys, *grad_values;  // the length of the document
    float *q, *grad, *out, *s, *ds;                                                // a tile of queries
};

// The forward pass on tiles of bfloat16, where has_tiles(): attention_tiles.cpp. Room's `padded` is C up to whole tiles.
void unpack_for_tiles(const Attention&, const Document&, int64_t kv_head, const Room&);
void attend_with_tiles(const Attention&, const Document&, int64_t head, const Room&);

}  // namespace nomoat
