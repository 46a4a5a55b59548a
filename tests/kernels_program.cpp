// Runs every compiled kernel on made-up numbers and writes what comes out. test_arm.py runs it on two processors and
// compares: integers and expanded blocks to the bit, sums to their rounding.
//
// Usage: kernels_program SET. Every result is a line "name exact|close f4|u1 count", then that many numbers.

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "decode.h"

extern "C" {
const char* nm_instruction_set(int set);
const char* nm_int8_instruction_set(int set);
int nm_has_tiles();
int nm_expand(int set, int threads, int ggml_id, const uint8_t* data, int64_t rows, int64_t cols, int64_t row_stride,
              float* out);
int nm_matmul_small(int set, int threads, int ggml_id, const uint8_t* data, int64_t rows, int64_t cols,
                    int64_t row_stride, const float* x, int64_t m, float* y);
int nm_int8_quantize(int set, int threads, const float* x, int64_t m, int64_t columns, int64_t x_stride, int64_t group,
                     int rotated, const int64_t* kept, int64_t n_kept, uint8_t* bytes, float* scales,
                     float* kept_values);
int nm_int8_product(int set, int threads, const uint8_t* rows, const float* row_scales, const float* kept_values,
                    int64_t m, int64_t depth, int64_t group, const int8_t* weights, const float* weight_scales,
                    const int32_t* starts, const float* kept_weights, int64_t n_kept, int64_t outputs,
                    const float* bias, float* y, int64_t y_stride, int add);
void nm_rms_norm(int set, int threads, const float* x, const float* added, float alpha, const float* weight, float eps,
                 int64_t rows, int64_t columns, float* total, float* y, float* inverse);
void nm_rms_norm_back(int set, int threads, const float* grad, const float* h, const float* inverse,
                      const float* weight, const float* beyond, int64_t rows, int64_t columns, float* out);
void nm_rotate(int set, int threads, const float* x, int64_t tokens, int64_t heads, int64_t width, int64_t x_stride,
               int64_t half, const float* cosine, const float* sine, float turn, float* out);
void nm_gated(int set, int threads, int activation, const float* gate, const float* up, int64_t rows, int64_t columns,
              int64_t gate_stride, int64_t up_stride, float* out);
void nm_gated_back(int set, int threads, int activation, const float* gate, const float* up, const float* grad,
                   int64_t rows, int64_t columns, int64_t gate_stride, int64_t up_stride, float* grad_gate,
                   float* grad_up, int64_t grad_gate_stride, int64_t grad_up_stride);
void nm_adamw(int set, int threads, const void* pieces, int64_t count, float to_grad, float beta2, float to_square,
              float square_bias_root, float eps);
int nm_attention(int set, int threads, int on_tiles, const float* q, const float* k, const float* v,
                 int64_t q_stride, int64_t k_stride, int64_t v_stride, int64_t heads, int64_t kv_heads, int64_t width,
                 const int64_t* starts, const int64_t* queries, int64_t documents, float scale, float softcap,
                 int64_t window, float* out, float* peaks);
int nm_attention_back(int set, int threads, const float* q, const float* k, const float* v, int64_t q_stride,
                      int64_t k_stride, int64_t v_stride, int64_t heads, int64_t kv_heads, int64_t width,
                      const int64_t* starts, int64_t documents, float scale, float softcap, int64_t window, float* out,
                      float* peaks, const float* grad, float* grad_q, float* grad_keys, float* grad_values);
void nm_join_heads(int set, int threads, const float* from, int64_t rows, int64_t group, int64_t width, float* to);
int nm_decode_step(int set, int threads, const void* model, const void* step);
}

namespace {

using Reals = std::vector<float>;
using Bytes = std::vector<uint8_t>;

constexpr int THREADS = 2;
int set = 0;

uint32_t draw() {
    static uint64_t state = 1;  // Knuth's MMIX generator
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<uint32_t>(state >> 33);
}

// From -1 to 1.
Reals reals(int64_t n) {
    Reals drawn(static_cast<size_t>(n));
    for (float& x : drawn) {
        x = static_cast<float>(draw() % 2001) / 1000.0f - 1.0f;
    }
    return drawn;
}

Bytes bytes(int64_t n) {
    Bytes drawn(static_cast<size_t>(n));
    for (uint8_t& x : drawn) {
        x = static_cast<uint8_t>(draw());
    }
    return drawn;
}

void write(const std::string& name, const char* how, const char* type, const void* data, size_t count, size_t size) {
    std::printf("%s %s %s %zu\n", name.c_str(), how, type, count);
    std::fwrite(data, size, count, stdout);
}

void exact(const std::string& name, const Reals& x) { write(name, "exact", "f4", x.data(), x.size(), 4); }
void exact(const std::string& name, const Bytes& x) { write(name, "exact", "u1", x.data(), x.size(), 1); }
void close(const std::string& name, const Reals& x) { write(name, "close", "f4", x.data(), x.size(), 4); }

void check(int failed, const char* name) {
    if (failed != 0) {
        std::fprintf(stderr, "%s refused its arguments\n", name);
        std::exit(1);
    }
}

struct Type {
    int id;
    int64_t weights, size;
    std::vector<int64_t> scales;  // where in a block its half-precision numbers are
};

const Type TYPES[] = {
    {0, 1, 4, {}},          {1, 1, 2, {0}},          {30, 1, 2, {0}},        {2, 32, 18, {0}},   {3, 32, 20, {0, 2}},
    {6, 32, 22, {0}},       {7, 32, 24, {0, 2}},     {8, 32, 34, {0}},       {20, 32, 18, {0}},  {10, 256, 84, {80, 82}},
    {11, 256, 110, {108}},  {12, 256, 144, {0, 2}},  {13, 256, 176, {0, 2}}, {14, 256, 210, {208}}, {23, 256, 136, {0}},
};

// Random blocks with scales of about a tenth.
Bytes blocks(const Type& type, int64_t n) {
    Bytes made = bytes(n * type.size);
    for (int64_t b = 0; b < n; ++b) {
        for (const int64_t at : type.scales) {
            made[static_cast<size_t>(b * type.size + at + 1)] = static_cast<uint8_t>(0x2C + draw() % 4);
        }
    }
    if (type.id == 0) {
        std::memcpy(made.data(), reals(n).data(), static_cast<size_t>(n) * 4);
    }
    return made;
}

void stored_weights() {
    for (const Type& type : TYPES) {
        const std::string name = std::to_string(type.id);
        const int64_t rows = 5, cols = type.weights == 1 ? 75 : 512, row = cols / type.weights * type.size;
        const Bytes data = blocks(type, rows * cols / type.weights);
        Reals out(static_cast<size_t>(rows * cols));
        check(nm_expand(set, THREADS, type.id, data.data(), rows, cols, row, out.data()), "nm_expand");
        exact("expand-" + name, out);
        for (const int64_t m : {1, 3, 16}) {
            const Reals x = reals(m * cols);
            Reals y(static_cast<size_t>(m * rows));
            check(nm_matmul_small(set, THREADS, type.id, data.data(), rows, cols, row, x.data(), m, y.data()),
                  "nm_matmul_small");
            close("matmul-" + name + "-" + std::to_string(m), y);
        }
    }
}

void int8(bool rotated, int64_t m) {
    const int64_t columns = 200, depth = 256, group = 128, groups = 2, outputs = 100, panels = 2;
    const std::vector<int64_t> kept = {3, 150};
    const Reals x = reals(m * columns);
    Bytes rows(static_cast<size_t>(m * depth));
    Reals scales(static_cast<size_t>(m * groups)), kept_values(static_cast<size_t>(m * 2));
    check(nm_int8_quantize(set, THREADS, x.data(), m, columns, columns, group, rotated, kept.data(), 2, rows.data(),
                           scales.data(), kept_values.data()),
          "nm_int8_quantize");
    const std::string name = (rotated ? "-rotated-" : "-plain-") + std::to_string(m);
    exact("quantized" + name, rows), exact("scales" + name, scales), exact("kept" + name, kept_values);

    const Bytes drawn = bytes(panels * depth * 64);
    std::vector<int8_t> weights(drawn.begin(), drawn.end());
    std::vector<int32_t> starts(static_cast<size_t>(panels * groups * 64), 0);
    for (int64_t i = 0; i < panels * depth * 64; ++i) {  // (panels, depth / 4, 64, 4) -> (panels, groups, 64)
        const int64_t panel = i / (depth * 64), g = i % (depth * 64) / (group * 64), output = i / 4 % 64;
        starts[static_cast<size_t>((panel * groups + g) * 64 + output)] -= 128 * weights[static_cast<size_t>(i)];
    }
    const Reals weight_scales = reals(panels * groups * 64), kept_weights = reals(panels * 2 * 64);
    const Reals bias = reals(outputs);
    Reals y = reals(m * outputs);
    for (const int add : {1, 0}) {
        check(nm_int8_product(set, THREADS, rows.data(), scales.data(), kept_values.data(), m, depth, group,
                              weights.data(), weight_scales.data(), starts.data(), kept_weights.data(), 2, outputs,
                              add ? bias.data() : nullptr, y.data(), outputs, add),
              "nm_int8_product");
        close((add ? "product-added" : "product") + name, y);
    }
}

struct AdamWPiece {
    float *value, *mean, *square;
    const float* grad;
    int64_t count;
    float step, decay;
};

void glue() {
    const int64_t rows = 3, columns = 37, n = rows * columns;
    const Reals x = reals(n), added = reals(n), weight = reals(columns), grad = reals(n), up = reals(n);
    Reals total(x), y(x), inverse(static_cast<size_t>(rows)), out(x), other(x);
    nm_rms_norm(set, THREADS, x.data(), added.data(), 0.7f, weight.data(), 1e-5f, rows, columns, total.data(),
                y.data(), inverse.data());
    close("norm-total", total), close("norm", y), close("norm-inverse", inverse);
    nm_rms_norm_back(set, THREADS, grad.data(), total.data(), inverse.data(), weight.data(), up.data(), rows, columns,
                     out.data());
    close("norm-back", out);
    for (const int activation : {0, 1}) {
        const std::string name = std::to_string(activation);
        nm_gated(set, THREADS, activation, x.data(), up.data(), rows, columns, columns, columns, out.data());
        close("gated-" + name, out);
        nm_gated_back(set, THREADS, activation, x.data(), up.data(), grad.data(), rows, columns, columns, columns,
                      out.data(), other.data(), columns, columns);
        close("gated-back-gate-" + name, out), close("gated-back-up-" + name, other);
    }
    const Reals heads = reals(3 * 2 * 10), cosine = reals(3 * 4), sine = reals(3 * 4);
    Reals turned(heads);
    nm_rotate(set, THREADS, heads.data(), 3, 2, 10, 20, 4, cosine.data(), sine.data(), -1.0f, turned.data());
    close("rotated", turned);
    Reals value = reals(n), mean = reals(n), square = reals(n);
    for (float& v : square) {
        v = v * v;
    }
    const AdamWPiece piece = {value.data(), mean.data(), square.data(), grad.data(), n, 0.1f, 0.99f};
    nm_adamw(set, THREADS, &piece, 1, 0.1f, 0.999f, 0.001f, 0.3f, 1e-8f);
    close("adamw-value", value), close("adamw-mean", mean), close("adamw-square", square);
}

void attention(float softcap, int64_t window) {
    const int64_t tokens = 201, heads = 4, kv_heads = 2, width = 20, all = tokens * heads * width;
    const std::vector<int64_t> starts = {0, 1, 71, 201};
    const Reals q = reals(all), k = reals(all / 2), v = reals(all / 2), grad = reals(all);
    Reals out(q), peaks(static_cast<size_t>(tokens * heads * 2)), grad_q(q), grad_k(q), grad_v(q), joined(k);
    const int64_t row = heads * width, kv_row = kv_heads * width;
    check(nm_attention(set, THREADS, 0, q.data(), k.data(), v.data(), row, kv_row, kv_row, heads, kv_heads, width,
                       starts.data(), starts.data(), 3, 0.2f, softcap, window, out.data(), peaks.data()),
          "nm_attention");
    const std::string name = (softcap != 0 ? "-capped" : "") + std::string(window != 0 ? "-window" : "");
    close("attention" + name, out);
    check(nm_attention_back(set, THREADS, q.data(), k.data(), v.data(), row, kv_row, kv_row, heads, kv_heads, width,
                            starts.data(), 3, 0.2f, softcap, window, out.data(), peaks.data(), grad.data(),
                            grad_q.data(), grad_k.data(), grad_v.data()),
          "nm_attention_back");
    close("attention-q" + name, grad_q), close("attention-k" + name, grad_k), close("attention-v" + name, grad_v);
    nm_join_heads(set, THREADS, grad_k.data(), tokens * kv_heads, heads / kv_heads, width, joined.data());
    close("attention-joined" + name, joined);
}

// Two rows of a decoder of two layers in Q8_0, the second row with an adapter on top.
void decode() {
    using namespace nomoat;
    constexpr int64_t D = 64, HEADS = 4, KV = 2, C = 16, FF = 96, LAYERS = 2, TOKENS = 6, RANK = 4, HALF = C / 2;
    constexpr int64_t SHAPES[N_PARTS][2] = {{D, D}, {KV * C, D}, {KV * C, D}, {D, D}, {FF, D}, {FF, D}, {D, FF}};
    const Type& q8 = TYPES[7];
    const Reals norm = reals(D), bias = reals(FF), a = reals(RANK * FF), b = reals(FF * RANK);
    std::vector<Bytes> stored;
    Layer layers[LAYERS] = {};
    Lora loras[LAYERS * N_PARTS] = {};
    for (int64_t i = 0; i < LAYERS * N_PARTS; ++i) {
        const int64_t rows = SHAPES[i % N_PARTS][0], cols = SHAPES[i % N_PARTS][1];
        stored.push_back(blocks(q8, rows * cols / 32));
        layers[i / N_PARTS].parts[i % N_PARTS] = {stored.back().data(), q8.id, rows, cols, cols / 32 * q8.size,
                                                  i % 2 ? bias.data() : nullptr};
        if (i % 3 == 0) {
            loras[i] = {a.data(), b.data(), RANK, 0.5};
        }
    }
    for (int64_t i = 0; i < LAYERS; ++i) {
        layers[i].before_attention = layers[i].before_mlp = layers[i].q_norm = layers[i].k_norm = norm.data();
        layers[i].window = i == 0 ? 3 : 0;
        layers[i].rope = 0;
    }
    layers[1].after_mlp = norm.data();
    const Model model = {layers, norm.data(), LAYERS, D, HEADS, KV, C, FF, EACH_HEAD, 1, 1e-5, 0.25, 20.0, 0.8};
    Reals x = reals(2 * D), out(x), keys = reals(LAYERS * TOKENS * KV * C), values = reals(LAYERS * TOKENS * KV * C);
    const Reals cosine = reals(2 * HALF), sine = reals(2 * HALF);
    const int64_t first[] = {4, 2, 0, 1, 3}, second[] = {5}, positions[] = {4, 0};
    const int64_t* const places[] = {first, second};
    const Angles angles = {cosine.data(), sine.data(), HALF};
    const Worn worn = {loras, 0.7};
    const Run runs[] = {{1, 0, nullptr}, {1, 1, &worn}};
    const Step step = {2, x.data(), out.data(), places, positions, keys.data(), values.data(), TOKENS * KV * C,
                       &angles, runs, 2};
    check(nm_decode_step(set, THREADS, &model, &step), "nm_decode_step");
    close("decode", out), close("decode-keys", keys), close("decode-values", values);
}

}  // namespace

int main(int count, char** words) {
    set = count > 1 ? std::atoi(words[1]) : 0;
    std::fprintf(stderr, "%s %s %d\n", nm_instruction_set(set), nm_int8_instruction_set(set), nm_has_tiles());
    stored_weights();
    for (const int64_t m : {1, 4, 7}) {
        int8(false, m);
        int8(true, m);
    }
    glue();
    attention(0, 0);
    attention(5, 16);
    decode();
    return 0;
}
