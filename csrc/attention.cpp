// Causal attention over packed documents, forward and backward, with memory linear in their lengths.
//
// A task is one document with some of the query heads that share a key-value head. Every head is worked on alone and
// heads are added in a fixed order, so no result depends on the number of threads.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

#include "attention.h"
#include "bfloat16.h"
#include "platform.h"
#include "pool.h"
#include "subnormals.h"

namespace nomoat {
namespace {

struct AttentionBack {
    Attention forward;
    const float* grad;                           // of out
    float *grad_q, *grad_keys, *grad_values;  // (T, H, C) each
};

struct JoinHeads {
    const float* from;
    int64_t group, width;
    float* to;
};

struct AttentionKernels {
    void (*head)(const Attention&, const Document&, int64_t, const Room&);
    void (*head_back)(const AttentionBack&, const Document&, int64_t, const Room&);
    void (*unpack)(const Attention&, const Document&, int64_t, const Room&);
    void (*join_heads)(const JoinHeads&, int64_t, int64_t);
};

#define NM_BODY "attention.inl"
#define NM_KERNELS AttentionKernels
#include "each_set.inl"
#undef NM_KERNELS
#undef NM_BODY

// Grow-only memory of one thread.
class Scratch {
public:
    ~Scratch() { release(); }

    float* take(int64_t floats) {
        if (floats > size_) {
            release();
            data_ = static_cast<float*>(::operator new(static_cast<size_t>(floats) * sizeof(float),
                                                       std::align_val_t(64), std::nothrow));
            size_ = data_ == nullptr ? 0 : floats;
        }
        return data_;
    }

private:
    void release() {
        ::operator delete(data_, std::align_val_t(64));
        data_ = nullptr, size_ = 0;
    }

    float* data_ = nullptr;
    int64_t size_ = 0;
};

// Lays out a task's room in this thread's scratch; false if there is no memory.
bool make_room(int64_t length, int64_t width, int64_t unit, bool backward, Room* room) {
    thread_local Scratch scratch;
    const int64_t padded = (width + unit - 1) / unit * unit;
    const int64_t tiled = (length + KEYS - 1) / KEYS * KEYS * padded, rows = QUERIES * padded, scores = QUERIES * KEYS;
    float* next = scratch.take((backward ? 5 : 2) * tiled + 3 * rows + 2 * scores);
    if (next == nullptr) {
        return false;
    }
    const auto part = [&next](int64_t floats) {
        float* const here = next;
        next += floats;
        return here;
    };
    *room = {};
    room->padded = padded;
    room->keys_across = part(tiled);
    if (backward) {
        room->values_across = part(tiled), room->keys = part(tiled);
        room->grad_keys = part(tiled), room->grad_values = part(tiled);
    } else {
        room->values = part(tiled);
    }
    room->q = part(rows), room->grad = part(rows), room->out = part(rows);
    room->s = part(scores), room->ds = part(scores);
    return true;
}

struct Tasks {
    const Attention* forward;
    const AttentionBack* back;  // null: forward only
    const int64_t *starts, *queries;  // where documents' keys and their queries begin, and the end of the last
    int64_t parts;              // that a group of query heads is cut into
    const AttentionKernels* kernels;
    bool on_tiles;  // forward only
    std::atomic<bool> failed;
};

void do_tasks(void* context, int64_t begin, int64_t end) {
    [[maybe_unused]] const SubnormalsAsZero as_zero;
    Tasks& tasks = *static_cast<Tasks*>(context);
    const Attention& job = *tasks.forward;
    const int64_t group = job.heads / job.kv_heads, share = group / tasks.parts;
    for (int64_t n = begin; n < end; ++n) {
        const int64_t part = n % tasks.parts, kv_head = n / tasks.parts % job.kv_heads;
        const int64_t number = n / tasks.parts / job.kv_heads;
        const int64_t *keys = tasks.starts + number, *queries = tasks.queries + number;
        const int64_t length = keys[1] - keys[0], n_queries = queries[1] - queries[0];
        const Document doc = {keys[0], length, queries[0], length - n_queries};
        Room room;
        if (n_queries == 0) {
            continue;
        }
        const int64_t unit = tasks.on_tiles ? TILE_DEPTH : WIDEST;
        if (!make_room(doc.length, job.width, unit, tasks.back != nullptr, &room)) {
            tasks.failed = true;
            return;
        }
        (tasks.on_tiles ? unpack_for_tiles : tasks.kernels->unpack)(job, doc, kv_head, room);
        for (int64_t i = 0; i < share; ++i) {
            const int64_t head = kv_head * group + part * share + i;
            if (tasks.back == nullptr) {
                (tasks.on_tiles ? attend_with_tiles : tasks.kernels->head)(job, doc, head, room);
            } else {
                tasks.kernels->head_back(*tasks.back, doc, head, room);
            }
        }
    }
}

// As few parts as keep every thread busy: the heads of a part share the unpacking of keys and values.
int64_t parts_of(int64_t group, int64_t others, int threads) {
    for (int64_t parts = 1; parts < group; ++parts) {
        if (group % parts == 0 && parts * others >= 3 * threads) {
            return parts;
        }
    }
    return group;
}

int run(int set, int threads, const Attention& forward, const AttentionBack* back, const int64_t* starts,
        const int64_t* queries, int64_t documents, bool on_tiles) {
    const int64_t others = documents * forward.kv_heads;
    const int64_t parts = threads <= 1 ? 1 : parts_of(forward.heads / forward.kv_heads, others, threads);
    Tasks tasks = {&forward, back, starts, queries, parts, &kernels_of(set), on_tiles, {false}};
    parallel_for(threads, others * parts, 1, do_tasks, &tasks);
    return tasks.failed ? 1 : 0;
}

struct Join {
    JoinHeads job;
    void (*work)(const JoinHeads&, int64_t, int64_t);
};

void join_rows(void* context, int64_t begin, int64_t end) {
    const Join& join = *static_cast<const Join*>(context);
    join.work(join.job, begin, end);
}

}  // namespace
}  // namespace nomoat

// Forward: fills out and peaks. `starts` and `queries` are documents + 1 row numbers, of keys and of queries: the queries
// are the last tokens of their document. With `on_tiles`, where the machine has tiles of bfloat16, every float32 number is
// taken as the sum of two. Returns 0, or 1 if there is no memory.
NM_EXPORT int nm_attention(int set, int threads, int on_tiles, const float* q, const float* k, const float* v,
                           int64_t q_stride, int64_t k_stride, int64_t v_stride, int64_t heads, int64_t kv_heads,
                           int64_t width, const int64_t* starts, const int64_t* queries, int64_t documents, float scale,
                           float softcap, int64_t window, float* out, float* peaks) {
    const nomoat::Attention job = {q,     k,     v,       q_stride, k_stride, v_stride, heads, kv_heads,
                                   width, scale, softcap, window,   out,      peaks};
    return nomoat::run(set, threads, job, nullptr, starts, queries, documents, on_tiles != 0 && nomoat::has_tiles());
}

// Backward, where every token of a document is a query: fills grad_q, and the gradients of keys and values of every
// query head, (T, H, C) each.
NM_EXPORT int nm_attention_back(int set, int threads, const float* q, const float* k, const float* v,
                                int64_t q_stride, int64_t k_stride, int64_t v_stride, int64_t heads, int64_t kv_heads,
                                int64_t width, const int64_t* starts, int64_t documents, float scale, float softcap,
                                int64_t window, float* out, float* peaks, const float* grad, float* grad_q,
                                float* grad_keys, float* grad_values) {
    const nomoat::Attention forward = {q,     k,     v,       q_stride, k_stride, v_stride, heads, kv_heads,
                                       width, scale, softcap, window,   out,      peaks};
    const nomoat::AttentionBack job = {forward, grad, grad_q, grad_keys, grad_values};
    return nomoat::run(set, threads, forward, &job, starts, starts, documents, false);
}

// to (rows, width) = sum over the group of from (rows, group, width).
NM_EXPORT void nm_join_heads(int set, int threads, const float* from, int64_t rows, int64_t group, int64_t width,
                             float* to) {
    nomoat::Join join = {{from, group, width, to}, nomoat::kernels_of(set).join_heads};
    nomoat::parallel_for(threads, rows, 256, nomoat::join_rows, &join);
}
