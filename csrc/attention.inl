// Causal attention of one query head over one document, a tile of queries by a tile of keys at a time, without ever
// holding more scores (Dao et al. 2022, FlashAttention, algorithms 1 and 4). Included once per instruction set; the
// shapes and the scratch are in attention.cpp.

#include "floats.inl"
#include "meeting.inl"
#include "tiles.inl"

static inline int64_t vectors_of(int64_t n) { return (n + W - 1) / W; }

// Key tiles transposed one after the other, each (C, KEYS).
static void transposed_tiles(const float* from, int64_t from_row, int64_t length, int64_t c, float* to) {
    for (int64_t j = 0; j < length; j += KEYS) {
        float* tile = to + j * c;
        const int64_t rows = smaller(KEYS, length - j);
        if (rows < KEYS) {
            for (int64_t i = 0; i < c * KEYS; i += W) {
                store(tile + i, all(0));
            }
        }
        transpose(from + j * from_row, from_row, rows, c, tile, KEYS);
    }
}

// Products of the query tile with the transposed tile `right` (C, KEYS), as far as anybody sees.
static void scores(const Meeting& m, const float* left, int64_t padded, int64_t c, const float* right, float* out) {
    for (int64_t r = 0; r < m.queries; r += TILE_ROWS) {
        const int64_t rows = smaller(TILE_ROWS, m.queries - r);
        const Tile tile = {left + r * padded, padded, 1, right, KEYS, c, out + r * KEYS, KEYS, false};
        rows_product(tile, rows, vectors_of(m.reach(r, TILE_ROWS)));
    }
}

// out (queries, padded) += weights (queries, KEYS) . rows of keys (keys, padded).
static void weighted_rows(const Meeting& m, const float* weights, const float* keys, int64_t padded, float* out) {
    for (int64_t r = 0; r < m.queries; r += TILE_ROWS) {
        const int64_t rows = smaller(TILE_ROWS, m.queries - r);
        const Tile tile = {weights + r * KEYS, KEYS, 1, keys, padded, m.reach(r, TILE_ROWS), out + r * padded, padded, true};
        rows_product(tile, rows, padded / W);
    }
}

// out (keys, padded) += weights^T . rows of queries (queries, padded); queries before the key see nothing of it.
static void weighted_columns(const Meeting& m, const float* weights, const float* queries, int64_t padded,
                             float* out) {
    for (int64_t j = 0; j < m.keys; j += TILE_ROWS) {
        const int64_t rows = smaller(TILE_ROWS, m.keys - j), from = larger(0, m.j0 + j - m.i0);
        if (from < m.queries) {
            const Tile tile = {weights + from * KEYS + j, 1, KEYS, queries + from * padded, padded, m.queries - from,
                               out + j * padded, padded, true};
            rows_product(tile, rows, padded / W);
        }
    }
}

// Scores -> weights e^(score - top) in place, where `top` rises to the largest score seen; `total` and the sums of
// values so far shrink along. Masked weights are 0 as far as any row of the block reaches.
static void soften(const Meeting& m, float softcap, float* s, float* top, float* total, float* out, int64_t padded) {
    for (int64_t r = 0; r < m.queries; ++r) {
        const int64_t low = m.low(r), high = m.high(r), end = m.reach(r - r % TILE_ROWS, TILE_ROWS);
        float* row = s + r * KEYS;
        Floats best = all(-1e30f);
        for (int64_t j = 0; j < high; j += W) {
            Floats v = load(row + j);
            if (softcap != 0) {
                v = mul(tanh(v), all(softcap));
                store(row + j, v);
            }
            best = greater(best, where_seen(v, j, low, high, all(-1e30f)));
        }
        const float before = top[r], peak = largest(best), now = before > peak ? before : peak;
        Floats sums = all(0);
        for (int64_t j = 0; j < end; j += W) {
            const Floats p = where_seen(exp(sub(load(row + j), all(now))), j, low, high, all(0));
            store(row + j, p);
            sums = add(sums, p);
        }
        top[r] = now;
        if (now != before) {
            float shrink[16];
            store(shrink, exp(all(before - now)));
            total[r] *= shrink[0];
            for (int64_t i = 0; i < padded; i += W) {
                store(out + r * padded + i, mul(load(out + r * padded + i), all(shrink[0])));
            }
        }
        total[r] += sum(sums);
    }
}

static void attend_head(const Attention& job, const Document& doc, int64_t head, const Room& room) {
    const int64_t c = job.width, padded = room.padded;
    const float by = job.softcap != 0 ? job.scale / job.softcap : job.scale;
    for (int64_t i0 = doc.before; i0 < doc.length; i0 += QUERIES) {
        const int64_t queries = smaller(QUERIES, doc.length - i0), row = doc.query + i0 - doc.before;
        const float* q = job.q + row * job.q_stride + head * c;
        copy_rows(q, job.q_stride, queries, c, by, room.q, padded);
        for (int64_t i = 0; i < queries * padded; i += W) {
            store(room.out + i, all(0));
        }
        float top[QUERIES], total[QUERIES];
        for (int64_t r = 0; r < queries; ++r) {
            top[r] = -1e30f, total[r] = 0;
        }
        const int64_t begin = job.window == 0 ? 0 : larger(0, i0 + 1 - job.window) / KEYS * KEYS;
        for (int64_t j0 = begin; j0 < i0 + queries; j0 += KEYS) {
            const Meeting m = {i0, queries, j0, smaller(KEYS, doc.length - j0), job.window};
            scores(m, room.q, padded, c, room.keys_across + j0 * c, room.s);
            soften(m, job.softcap, room.s, top, total, room.out, padded);
            weighted_rows(m, room.s, room.values + j0 * padded, padded, room.out);
        }
        for (int64_t r = 0; r < queries; ++r) {
            const int64_t token = row + r;
            float* out = job.out + (token * job.heads + head) * c;
            for (int64_t i = 0; i < c; i += W) {
                put(out + i, mul(load(room.out + r * padded + i), all(1.0f / total[r])), c - i);
            }
            job.peaks[2 * (token * job.heads + head)] = top[r];
            job.peaks[2 * (token * job.heads + head) + 1] = 1.0f / total[r];
        }
    }
}

// Scores -> weights in s, and their gradients in ds, which comes in as the weights' gradients.
static void soften_back(const Meeting& m, float softcap, float* s, float* ds, const float* peaks, const float* mean) {
    for (int64_t r = 0; r < m.queries; ++r) {
        const int64_t low = m.low(r), high = m.high(r), end = KEYS;
        float *p_row = s + r * KEYS, *ds_row = ds + r * KEYS;
        const Floats top = all(peaks[2 * r]), inverse = all(peaks[2 * r + 1]), centre = all(mean[r]);
        for (int64_t j = 0; j < end; j += W) {
            if (j >= high) {
                store(p_row + j, all(0));
                store(ds_row + j, all(0));
                continue;
            }
            Floats v = load(p_row + j), slope = all(1);
            if (softcap != 0) {
                const Floats t = tanh(v);
                slope = mul(sub(all(1), mul(t, t)), all(softcap));
                v = mul(t, all(softcap));
            }
            const Floats p = where_seen(mul(exp(sub(v, top)), inverse), j, low, high, all(0));
            const Floats d = mul(mul(p, sub(load(ds_row + j), centre)), slope);
            store(p_row + j, p);
            store(ds_row + j, where_seen(d, j, low, high, all(0)));
        }
    }
}

static void attend_head_back(const AttentionBack& job, const Document& doc, int64_t head, const Room& room) {
    const Attention& f = job.forward;
    const int64_t c = f.width, padded = room.padded, heads = f.heads;
    const float by = f.softcap != 0 ? f.scale / f.softcap : f.scale;
    for (int64_t i = 0; i < doc.length * padded; i += W) {
        store(room.grad_keys + i, all(0));
        store(room.grad_values + i, all(0));
    }
    for (int64_t i0 = 0; i0 < doc.length; i0 += QUERIES) {
        const int64_t queries = smaller(QUERIES, doc.length - i0), token = doc.start + i0;
        const float* grad = job.grad + (token * heads + head) * c;
        copy_rows(f.q + token * f.q_stride + head * c, f.q_stride, queries, c, by, room.q, padded);
        copy_rows(grad, heads * c, queries, c, 1.0f, room.grad, padded);
        float mean[QUERIES], peaks[2 * QUERIES];
        for (int64_t r = 0; r < queries; ++r) {
            mean[r] = dot(grad + r * heads * c, f.out + ((token + r) * heads + head) * c, c);
            peaks[2 * r] = f.peaks[2 * ((token + r) * heads + head)];
            peaks[2 * r + 1] = f.peaks[2 * ((token + r) * heads + head) + 1];
        }
        for (int64_t i = 0; i < queries * padded; i += W) {
            store(room.out + i, all(0));
        }
        const int64_t begin = f.window == 0 ? 0 : larger(0, i0 + 1 - f.window) / KEYS * KEYS;
        for (int64_t j0 = begin; j0 < i0 + queries; j0 += KEYS) {
            const Meeting m = {i0, queries, j0, smaller(KEYS, doc.length - j0), f.window};
            scores(m, room.q, padded, c, room.keys_across + j0 * c, room.s);
            scores(m, room.grad, padded, c, room.values_across + j0 * c, room.ds);
            soften_back(m, f.softcap, room.s, room.ds, peaks, mean);
            weighted_rows(m, room.ds, room.keys + j0 * padded, padded, room.out);
            weighted_columns(m, room.s, room.grad, padded, room.grad_values + j0 * padded);
            weighted_columns(m, room.ds, room.q, padded, room.grad_keys + j0 * padded);
        }
        for (int64_t r = 0; r < queries; ++r) {
            float* out = job.grad_q + ((token + r) * heads + head) * c;
            for (int64_t i = 0; i < c; i += W) {
                put(out + i, mul(load(room.out + r * padded + i), all(by)), c - i);
            }
        }
    }
    for (int64_t t = 0; t < doc.length; ++t) {
        const int64_t to = ((doc.start + t) * heads + head) * c;
        for (int64_t i = 0; i < c; i += W) {
            put(job.grad_keys + to + i, load(room.grad_keys + t * padded + i), c - i);
            put(job.grad_values + to + i, load(room.grad_values + t * padded + i), c - i);
        }
    }
}

// What all query heads of one key-value head share.
static void unpack(const Attention& job, const Document& doc, int64_t kv_head, const Room& room) {
    const float *k = job.k + doc.start * job.k_stride + kv_head * job.width;
    const float *v = job.v + doc.start * job.v_stride + kv_head * job.width;
    transposed_tiles(k, job.k_stride, doc.length, job.width, room.keys_across);
    if (room.values_across == nullptr) {
        copy_rows(v, job.v_stride, doc.length, job.width, 1.0f, room.values, room.padded);
    } else {
        transposed_tiles(v, job.v_stride, doc.length, job.width, room.values_across);
        copy_rows(k, job.k_stride, doc.length, job.width, 1.0f, room.keys, room.padded);
    }
}

// Gradients of the heads that share a key-value head, added in their order. (T, H, C) -> (T, K, C).
static void join_heads(const JoinHeads& job, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {  // of T * K
        const float* from = job.from + row * job.group * job.width;
        for (int64_t i = 0; i < job.width; i += W) {
            const int64_t left = job.width - i;
            Floats total = at(from + i, left);
            for (int64_t g = 1; g < job.group; ++g) {
                total = add(total, at(from + g * job.width + i, left));
            }
            put(job.to + row * job.width + i, total, left);
        }
    }
}

static const AttentionKernels kernels = {attend_head, attend_head_back, unpack, join_heads};
