// The products of a decode step: some matrices of a layer with the same input, with bias and with what adapters add.

#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "decode.h"
#include "few.h"
#include "kernels.h"
#include "pool.h"

namespace nomoat {

// Where the product with a part's matrix goes: (rows, part's rows).
struct Target {
    Part part;
    float* y;
};

using Targets = std::initializer_list<Target>;

class Products {
public:
    Products(const InstructionSet& isa, int threads, const Model& model, const Step& step)
        : isa_(isa), threads_(threads), model_(model), step_(step) {}

    // y = W x + bias + sum of b (a x) over the adapters of each row. x (rows, cols).
    void run(int64_t layer, const float* x, Targets targets) {
        layer_ = layer;
        low_.clear();
        stage_.clear();
        weights_ = 0;
        for (const Target& target : targets) {
            const Matrix& w = matrix(target);
            weights_ += w.rows * w.cols;
            stage_.push_back(
                {find_type(w.ggml_id), w.data, w.rows, w.cols, w.row_stride, x, step_.rows, target.y, w.rows, false});
        }
        note_next(targets);
        const int64_t chunk = split(x) ? FEW_ROWS_PER_CHUNK : rows_per_chunk(stage_[0].cols);
        const int64_t deepest = lower(x, targets);
        run_stage(chunk);
        lines_ = 0;  // they are near now
        for (const Target& target : targets) {
            add_bias(matrix(target), target.y);
        }
        for (int64_t depth = 0; depth < deepest; ++depth) {
            raise(depth, targets);
        }
    }

private:
    const Matrix& matrix(const Target& target) const { return model_.layers[layer_].parts[target.part]; }

    // One adapter's share in one product: rows [row, row + rows) wear it as their adapter number `depth`.
    struct Share {
        const Target& target;
        const Lora& lora;
        double strength;
        int64_t row, rows, depth;
    };

    // Every product of the stage is told which weights come after its own: the last one, those of the next stage.
    void note_next(Targets targets) {
        for (size_t i = 0; i + 1 < stage_.size(); ++i) {
            stage_[i].next = stage_[i + 1].weights;
        }
        const Part last = (targets.end() - 1)->part;
        const int64_t layer = layer_ + (last == DOWN ? 1 : 0);
        stage_.back().next = layer < model_.n_layers ? model_.layers[layer].parts[(last + 1) % N_PARTS].data : nullptr;
    }

    // Splits x, which the products in the stage share, for those that take it so. Returns whether there are any.
    bool split(const float* x) {
        bool any = false;
        for (Product& product : stage_) {
            if (isa_.few == nullptr || !isa_.few->takes(*product.type, product.rows)) {
                continue;
            }
            if (!any) {
                split_.fill(*isa_.few, x, product.m, product.cols);
            }
            any = true;
            product.split = split_.from(0);
        }
        return any;
    }

    // Puts the products low = a x of all adapters into the stage; returns how many the fullest run wears.
    int64_t lower(const float* x, Targets targets) {
        int64_t deepest = 0, size = 0;
        each_share(targets, [&](const Share& share) {
            deepest = std::max(deepest, share.depth + 1);
            size += share.rows * share.lora.rank;
        });
        low_.resize(static_cast<size_t>(size));
        soon_.clear();
        lines_ = 0;
        float* low = low_.data();
        each_share(targets, [&](const Share& share) {
            const int64_t cols = matrix(share.target).cols, rank = share.lora.rank;
            stage_.push_back(floats(share.lora.a, rank, cols, x + share.row * cols, share.rows, low, rank, false));
            low += share.rows * rank;
            read_soon(share.lora.a, rank * cols);
            read_soon(share.lora.b, rank * matrix(share.target).rows);
        });
        return deepest;
    }

    // Notes a matrix of an adapter, which the base's own are multiplied before.
    void read_soon(const float* at, int64_t n) {
        if (const int64_t lines = n * static_cast<int64_t>(sizeof(float)) / LINE; lines > 0) {
            soon_.push_back({reinterpret_cast<const char*>(at), lines});
            lines_ += lines;
        }
    }

    // y += b low for every run's adapter number `depth`. Two adapters of one row take turns, so that no two threads
    // ever add to the same number.
    void raise(int64_t depth, Targets targets) {
        stage_.clear();
        float* low = low_.data();
        int64_t cols = 1;
        each_share(targets, [&](const Share& share) {
            const int64_t rank = share.lora.rank, n = matrix(share.target).rows, size = share.rows * rank;
            if (share.depth == depth) {
                const float scale = static_cast<float>(share.lora.scaling * share.strength);
                std::for_each(low, low + size, [=](float& value) { value *= scale; });
                float* y = share.target.y + share.row * n;
                if (share.lora.bias != nullptr) {
                    add_to_rows(share.lora.bias, static_cast<float>(share.strength), y, share.rows, n);
                }
                stage_.push_back(floats(share.lora.b, n, rank, low, share.rows, y, n, true));
                cols = std::max(cols, rank);
            }
            low += size;
        });
        run_stage(rows_per_chunk(cols));
    }

    template <typename F>
    void each_share(Targets targets, F f) const {
        int64_t row = 0;
        for (int64_t r = 0; r < step_.n_runs; row += step_.runs[r].rows, ++r) {
            const Run& run = step_.runs[r];
            for (int64_t depth = 0; depth < run.n_worn; ++depth) {
                for (const Target& target : targets) {
                    const Lora& lora = run.worn[depth].loras[layer_ * N_PARTS + target.part];
                    if (lora.a != nullptr) {
                        f(Share{target, lora, run.worn[depth].strength, row, run.rows, depth});
                    }
                }
            }
        }
    }

    static Product floats(const float* w, int64_t rows, int64_t cols, const float* x, int64_t m, float* y,
                          int64_t y_stride, bool add) {
        const BlockType* type = find_type(0);
        const auto* bytes = reinterpret_cast<const uint8_t*>(w);
        return {type, bytes, rows, cols, cols * type->type_size, x, m, y, y_stride, add};
    }

    // All products of the stage, in any order, as one range of weight rows.
    void run_stage(int64_t chunk) {
        int64_t rows = 0;
        for (const Product& product : stage_) {
            rows += product.rows;
        }
        parallel_for(threads_, rows, chunk, stage_rows, this);
    }

    static void stage_rows(void* context, int64_t begin, int64_t end) {
        Products& self = *static_cast<Products*>(context);
        Soon soon = self.soon_for(begin * self.stage_[0].cols, end * self.stage_[0].cols);
        int64_t first = 0;
        for (const Product& whole : self.stage_) {
            const int64_t from = std::max(begin, first) - first, to = std::min(end, first + whole.rows) - first;
            first += whole.rows;
            for (int64_t m = 0; m < whole.m && from < to; m += MAX_ROWS) {
                Product part = whole;
                part.x += m * whole.cols;
                part.y += m * whole.y_stride;
                part.m = std::min(MAX_ROWS, whole.m - m);
                part.soon = m == 0 ? &soon : nullptr;
                part.split = whole.split == nullptr ? nullptr : self.split_.from(m);
                multiply(self.isa_, part, from, to);
            }
        }
    }

    // The lines to ask for while the weights [begin, end) of the layer's own matrices are multiplied.
    Soon soon_for(int64_t begin, int64_t end) const {
        const int64_t from = std::min(begin, weights_) * lines_ / weights_;
        const int64_t lines = std::min(end, weights_) * lines_ / weights_ - from;
        return Soon(soon_, from, lines, end - begin);
    }

    void add_bias(const Matrix& w, float* y) const {
        if (w.bias != nullptr) {
            add_to_rows(w.bias, 1.0f, y, step_.rows, w.rows);
        }
    }

    static void add_to_rows(const float* bias, float strength, float* y, int64_t rows, int64_t n) {
        for (int64_t i = 0; i < rows; ++i) {
            for (int64_t r = 0; r < n; ++r) {
                y[i * n + r] += strength * bias[r];
            }
        }
    }

    const InstructionSet& isa_;
    const int threads_;
    const Model& model_;
    const Step& step_;
    int64_t layer_ = 0;
    std::vector<Product> stage_;
    std::vector<float> low_;
    Split split_;
    std::vector<Span> soon_;  // what the adapters of the stage hold, that many lines
    int64_t lines_ = 0;
    int64_t weights_ = 1;  // of the base in the stage
};

}  // namespace nomoat
