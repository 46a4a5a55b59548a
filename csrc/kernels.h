// What is compiled once per instruction set, and how to find the best set this machine has. Defined in blocks.cpp.

#pragma once

#include <cstdint>

#include "platform.h"
#include "soon.h"

namespace nomoat {

struct BlockType {
    int index;  // in TYPES and in `expanders`
    int ggml_id;
    int64_t block_size;  // weights
    int64_t type_size;   // bytes
};

struct Few;

constexpr int64_t MAX_ROWS = 16;  // rows of x in a Product

// `n` blocks -> n * block_size floats.
using Expand = void (*)(const uint8_t* in, int64_t n, float* out);

// y[m, r] = sum_k x[m, k] W[r, k], or y[m, r] += the same.
struct Product {
    const BlockType* type;
    const uint8_t* weights;
    int64_t rows, cols, row_stride;  // row_stride in bytes
    const float* x;                  // (m, cols)
    int64_t m;
    float* y;  // (m, rows), its rows y_stride floats apart
    int64_t y_stride;
    bool add;
    Soon* soon = nullptr;            // what to ask for meanwhile
    const uint8_t* split = nullptr;  // x split, see few.h; null: the product goes without
    const uint8_t* next = nullptr;   // the weights that are multiplied after these, if that is known
};

// One query over the keys and values of one head: softmax(scale q . k) v.
struct Query {
    const float* q;  // (width,)
    const float *keys, *values;  // of one head, tokens `stride` apart
    const int64_t* places;       // (n,): which tokens
    int64_t n, width, stride;
    float scale, softcap;  // softcap 0: none
    float* scores;         // room for n rounded up to a multiple of 16
    float* out;            // (width,)
};

struct InstructionSet {
    const char* name;
    const Expand* expanders;
    void (*matmul_rows)(const Product&, int64_t begin, int64_t end);  // for weight rows [begin, end)
    void (*rms_norm)(const float* x, const float* weight, int64_t n, float eps, float* out);
    void (*gate)(const float* gate, float* up, int64_t n, bool gelu);  // up = act(gate) * up
    void (*attend)(const Query&);
    const Few* few;  // products of split rows, see few.h; null: none
};

// The instruction set of that number (0 portable, 1 AVX2, 2 AVX-512, 3 with tiles), or the best one below it that this machine has.
InstructionSet best_up_to(int number);

// Null for a type that is not in the table.
const BlockType* find_type(int64_t ggml_id);

// What a thread takes at a time: some ten microseconds of work.
int64_t rows_per_chunk(int64_t cols);

}  // namespace nomoat
