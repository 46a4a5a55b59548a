// Attention of one query head on tiles of bfloat16, each float32 number as the sum of two: the walk of attention.inl. A
// row's result depends on no other row. Included inside a namespace compiled for AMX; see attention_tiles.cpp.

#define NM_VECTOR 512
#include "floats.inl"
#undef NM_VECTOR
#include "bfloat16_tiles.inl"
#include "meeting.inl"

constexpr int SPLIT = 2;         // parts of a number
constexpr int64_t ROWS = PANEL;  // queries met at a time

// A matrix (rows, cols) of floats, `stride` of them from row to row, as what pack_panel and pack_columns take.
static TileProduct matrix(const float* at, int64_t rows, int64_t cols, int64_t stride) {
    TileProduct found = {};
    found.expand = best_up_to(2).expanders[find_type(0)->index];
    found.block_size = 1, found.type_size = sizeof(float);
    found.weights = reinterpret_cast<const uint8_t*>(at);
    found.rows = rows, found.cols = cols, found.row_stride = stride * static_cast<int64_t>(sizeof(float));
    return found;
}

// ROWS rows of `depth` floats, of which `rows` are there, as split_row lays them out.
static void split_rows(const float* x, int64_t rows, int64_t depth, uint16_t* to) {
    TileProduct product = {};
    product.x = x, product.m = rows, product.depth = product.padded = depth, product.split = to;
    for (int64_t row = 0; row < ROWS; ++row) {
        split_row<SPLIT>(product, row);
    }
}

// y (ROWS, PANEL), `apart` floats from row to row, = x . packed over `depth`, or += it.
static void meet(const uint16_t* x, const uint16_t* packed, int64_t depth, float* y, int64_t apart, bool onto) {
    asm volatile("" ::: "memory");  // g++ 12 does not know that loads of tiles read memory
    multiply_tiles<SPLIT>({x, packed, depth}, {nullptr, nullptr, 0}, y, apart, onto);
}

static uint16_t* halves(float* floats) { return reinterpret_cast<uint16_t*>(floats); }

// Keys as panels of (padded depth, 32 keys), values as panels of (KEYS, 32 channels), a tile of keys at a time.
static void unpack(const Attention& job, const Document& doc, int64_t kv_head, const Room& room) {
    const int64_t c = job.width, padded = room.padded, panel = SPLIT * PANEL;
    const TileProduct keys = matrix(job.k + doc.start * job.k_stride + kv_head * c, doc.length, c, job.k_stride);
    const TileProduct values = matrix(job.v + doc.start * job.v_stride + kv_head * c, doc.length, c, job.v_stride);
    uint16_t *to_keys = halves(room.keys_across), *to_values = halves(room.values);
    for (int64_t j = 0; j < doc.length; j += KEYS) {
        for (int64_t side = 0; side < KEYS; side += PANEL) {
            pack_panel<SPLIT>(keys, j + side, 0, padded, to_keys + (j + side) / PANEL * panel * padded);
        }
        for (int64_t i = 0; i < c; i += AT_A_TIME) {
            uint16_t* to = to_values + (j * padded / PANEL + i / PANEL * KEYS) * panel;
            pack_columns<SPLIT>(values, i, smaller(AT_A_TIME, c - i), j, j + KEYS, to);
        }
    }
}

// As in attention.inl; masked weights are 0 over the whole tile of keys.
static void soften(const Meeting& m, float softcap, float* s, float* top, float* total, float* out, int64_t padded) {
    for (int64_t r = 0; r < m.queries; ++r) {
        const int64_t low = m.low(r), high = m.high(r);
        float* row = s + r * KEYS;
        Floats best = all(-1e30f);
        for (int64_t j = 0; j < KEYS; j += W) {
            Floats v = load(row + j);
            if (softcap != 0) {
                v = mul(tanh(v), all(softcap));
            }
            v = where_seen(v, j, low, high, all(-1e30f));
            store(row + j, v);
            best = greater(best, v);
        }
        const float before = top[r], peak = largest(best), now = before > peak ? before : peak;
        Floats sums = all(0);
        for (int64_t j = 0; j < KEYS; j += W) {
            const Floats p = where_seen(exp(sub(load(row + j), all(now))), j, low, high, all(0));
            store(row + j, p);
            sums = add(sums, p);
        }
        top[r] = now;
        if (now != before) {
            const Floats shrink = exp(all(before - now));
            total[r] *= _mm512_cvtss_f32(shrink);
            for (int64_t i = 0; i < padded; i += W) {
                store(out + r * padded + i, mul(load(out + r * padded + i), shrink));
            }
        }
        total[r] += sum(sums);
    }
}

// The queries of one tile, whose keys and values are unpacked, over all keys that they see; sums in room.out.
static void walk(const Attention& job, const Document& doc, int64_t place, int64_t queries, const Room& room,
                 float* top, float* total) {
    const int64_t padded = room.padded, panel = SPLIT * PANEL;
    const uint16_t *keys = halves(room.keys_across), *values = halves(room.values);
    uint16_t *left = halves(room.grad), *weights = halves(room.ds);
    split_rows(room.q, queries, padded, left);
    const int64_t begin = job.window == 0 ? 0 : larger(0, place + 1 - job.window) / KEYS * KEYS;
    const Tiles tiles;
    for (int64_t j0 = begin; j0 < place + queries; j0 += KEYS) {
        const Meeting m = {place, queries, j0, smaller(KEYS, doc.length - j0), job.window};
        for (int64_t side = 0; side < KEYS; side += PANEL) {
            meet(left, keys + (j0 + side) / PANEL * panel * padded, padded, room.s + side, KEYS, false);
        }
        soften(m, job.softcap, room.s, top, total, room.out, padded);
        split_rows(room.s, ROWS, KEYS, weights);
        for (int64_t i = 0; i < padded; i += PANEL) {
            meet(weights, values + (j0 * padded / PANEL + i / PANEL * KEYS) * panel, KEYS, room.out + i, padded, true);
        }
    }
}

static void head(const Attention& job, const Document& doc, int64_t number, const Room& room) {
    const int64_t c = job.width, padded = room.padded;
    const float by = job.softcap != 0 ? job.scale / job.softcap : job.scale;
    for (int64_t i0 = doc.before; i0 < doc.length; i0 += ROWS) {
        const int64_t queries = smaller(ROWS, doc.length - i0), row = doc.query + i0 - doc.before;
        copy_rows(job.q + row * job.q_stride + number * c, job.q_stride, queries, c, by, room.q, padded);
        for (int64_t i = 0; i < ROWS * padded; i += W) {
            store(room.out + i, all(0));
        }
        float top[ROWS], total[ROWS];
        for (int64_t r = 0; r < ROWS; ++r) {
            top[r] = -1e30f, total[r] = 0;
        }
        walk(job, doc, i0, queries, room, top, total);
        for (int64_t r = 0; r < queries; ++r) {
            const int64_t at = (row + r) * job.heads + number;
            for (int64_t i = 0; i < c; i += W) {
                put(job.out + at * c + i, mul(load(room.out + r * padded + i), all(1.0f / total[r])), c - i);
            }
            job.peaks[2 * at] = top[r];
            job.peaks[2 * at + 1] = 1.0f / total[r];
        }
    }
}
