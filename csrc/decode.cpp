// One step of a whole decoder in one call: all layers and the last norm, for a few new tokens over the cache.
//
// Twin: Decoder.forward in src/nomoat/model/decoder.py. A step of a small model is some four hundred products and
// small operations of microseconds each; called one by one from Python they wait longer for their callers than they
// work. A row's result does not depend on the other rows, nor on the number of threads: every sum has its own order.

#include <algorithm>
#include <cstdint>
#include <vector>

#include "decode.h"
#include "decode_products.h"
#include "kernels.h"
#include "pool.h"

namespace nomoat {
namespace {

class Runner {
public:
    Runner(const InstructionSet& isa, int threads, const Model& model, const Step& step)
        : isa_(isa), threads_(threads), model_(model), step_(step), products_(isa, threads, model, step) {
        const int64_t n_q = model.n_heads * model.head_dim, n_kv = model.n_kv_heads * model.head_dim;
        inside_.resize(step.rows * model.d_model);
        mixed_.resize(step.rows * model.d_model);
        q_.resize(step.rows * n_q);
        k_.resize(step.rows * n_kv);
        v_.resize(step.rows * n_kv);
        seen_.resize(step.rows * n_q);
        gate_.resize(step.rows * model.d_ff);
        up_.resize(step.rows * model.d_ff);
    }

    void run() {
        for (layer_ = 0; layer_ < model_.n_layers; ++layer_) {
            attention();
            mlp();
        }
        norm(step_.x, model_.last_norm, step_.out, step_.rows, model_.d_model);
    }

private:
    const Layer& layer() const { return model_.layers[layer_]; }

    void attention() {
        const float* x = before(layer().before_attention);
        products_.run(layer_, x, {{Q, q_.data()}, {K, k_.data()}, {V, v_.data()}});
        const int64_t heads = model_.n_heads, kv_heads = model_.n_kv_heads;
        place(q_.data(), heads, layer().q_norm);
        place(k_.data(), kv_heads, layer().k_norm);
        write(k_.data(), step_.keys);
        write(v_.data(), step_.values);
        const int64_t chunk = std::max<int64_t>(1, 16384 / (model_.head_dim * (1 + longest())));
        parallel_for(threads_, step_.rows * heads, chunk, attend_heads, this);
        products_.run(layer_, seen_.data(), {{O, mixed_.data()}});
        add_to_stream(layer().after_attention);
    }

    void mlp() {
        const float* x = before(layer().before_mlp);
        products_.run(layer_, x, {{GATE, gate_.data()}, {UP, up_.data()}});
        parallel_for(threads_, step_.rows * model_.d_ff, 4096, gate_some, this);
        products_.run(layer_, up_.data(), {{DOWN, mixed_.data()}});
        add_to_stream(layer().after_mlp);
    }

    // The input of a sub-layer: the stream itself, or its norm.
    const float* before(const float* weight) {
        if (weight == nullptr) {
            return step_.x;
        }
        norm(step_.x, weight, inside_.data(), step_.rows, model_.d_model);
        return inside_.data();
    }

    void norm(const float* x, const float* weight, float* out, int64_t rows, int64_t width) const {
        for (int64_t i = 0; i < rows; ++i) {
            isa_.rms_norm(x + i * width, weight, width, static_cast<float>(model_.norm_eps), out + i * width);
        }
    }

    void add_to_stream(const float* weight) {
        if (weight != nullptr) {
            norm(mixed_.data(), weight, mixed_.data(), step_.rows, model_.d_model);
        }
        const float scale = static_cast<float>(model_.residual_scale);
        for (int64_t i = 0; i < step_.rows * model_.d_model; ++i) {
            step_.x[i] += scale * mixed_[i];
        }
    }

    // Norm and rotation of q or k, in place. x (rows, heads, head_dim).
    void place(float* x, int64_t heads, const float* weight) const {
        const int64_t width = model_.head_dim;
        if (model_.head_norm == EACH_HEAD) {
            norm(x, weight, x, step_.rows * heads, width);
        } else if (model_.head_norm == ALL_HEADS) {
            norm(x, weight, x, step_.rows, heads * width);
        }
        if (layer().rope < 0) {
            return;
        }
        const Angles& angles = step_.angles[layer().rope];
        for (int64_t i = 0; i < step_.rows * heads; ++i) {
            const int64_t at = i / heads * angles.half;
            rotate(x + i * width, angles.cosine + at, angles.sine + at, angles.half);
        }
    }

    // Pairs (k, k + half) of one head (Su et al. 2021).
    static void rotate(float* x, const float* cosine, const float* sine, int64_t half) {
        for (int64_t k = 0; k < half; ++k) {
            const float first = x[k], second = x[k + half];
            x[k] = first * cosine[k] - second * sine[k];
            x[k + half] = second * cosine[k] + first * sine[k];
        }
    }

    // New keys or values (rows, kv heads, head_dim) into the cache.
    void write(const float* x, float* cache) const {
        const int64_t token = model_.n_kv_heads * model_.head_dim;
        for (int64_t i = 0; i < step_.rows; ++i) {
            const int64_t place = step_.places[i][step_.positions[i]];
            std::copy(x + i * token, x + (i + 1) * token, cache + layer_ * step_.layer_stride + place * token);
        }
    }

    int64_t longest() const { return *std::max_element(step_.positions, step_.positions + step_.rows); }

    static void attend_heads(void* context, int64_t begin, int64_t end) {
        Runner& runner = *static_cast<Runner*>(context);
        for (int64_t i = begin; i < end; ++i) {
            runner.attend(i / runner.model_.n_heads, i % runner.model_.n_heads);
        }
    }

    void attend(int64_t row, int64_t head) {
        thread_local std::vector<float> scores;
        const int64_t width = model_.head_dim, n = step_.positions[row] + 1, window = layer().window;
        const int64_t first = window > 0 ? std::max<int64_t>(0, n - window) : 0;
        const int64_t cached = layer_ * step_.layer_stride + head / (model_.n_heads / model_.n_kv_heads) * width;
        if (scores.size() < static_cast<size_t>(n + MAX_ROWS)) {
            scores.resize(n + n / 2 + MAX_ROWS);
        }
        const int64_t at = (row * model_.n_heads + head) * width;
        isa_.attend({q_.data() + at, step_.keys + cached, step_.values + cached, step_.places[row] + first, n - first,
                     width, model_.n_kv_heads * width, static_cast<float>(model_.softmax_scale),
                     static_cast<float>(model_.softcap), scores.data(), seen_.data() + at});
    }

    static void gate_some(void* context, int64_t begin, int64_t end) {
        Runner& runner = *static_cast<Runner*>(context);
        runner.isa_.gate(runner.gate_.data() + begin, runner.up_.data() + begin, end - begin, runner.model_.gelu != 0);
    }

    const InstructionSet& isa_;
    const int threads_;
    const Model& model_;
    const Step& step_;
    Products products_;
    int64_t layer_ = 0;
    std::vector<float> inside_, mixed_, q_, k_, v_, seen_, gate_, up_;
};

bool known(const Model& model) {
    for (int64_t i = 0; i < model.n_layers * N_PARTS; ++i) {
        const Matrix& w = model.layers[i / N_PARTS].parts[i % N_PARTS];
        const BlockType* type = find_type(w.ggml_id);
        if (type == nullptr || w.cols % type->block_size != 0) {
            return false;
        }
    }
    return true;
}

}  // namespace
}  // namespace nomoat

// Returns 0, or 1 if a matrix is of an unknown type. Python checks every shape before it hands pointers over.
NM_EXPORT int nm_decode_step(int set, int threads, const void* model, const void* step) {
    const auto& plan = *static_cast<const nomoat::Model*>(model);
    if (!nomoat::known(plan)) {
        return 1;
    }
    const nomoat::InstructionSet isa = nomoat::best_up_to(set);
    nomoat::Runner(isa, threads, plan, *static_cast<const nomoat::Step*>(step)).run();
    return 0;
}
