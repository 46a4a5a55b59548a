// The C functions that Python calls for int8 rows and products: work shared out among threads.

#include <algorithm>

#include "int8.h"
#include "pool.h"

namespace nomoat {
namespace {

constexpr int64_t CHUNK_BYTES = 1 << 20;  // of quantized rows that should stay in the second-level cache

struct RowsJob {
    Int8Rows rows;
    void (*quantize_row)(const Int8Rows&, int64_t row);
};

void quantize_rows(void* context, int64_t begin, int64_t end) {
    const RowsJob& job = *static_cast<const RowsJob*>(context);
    for (int64_t row = begin; row < end; ++row) {
        job.quantize_row(job.rows, row);
    }
}

struct PanelsJob {
    Int8Product product;
    int64_t panels, chunk_rows;
    void (*multiply_panel)(const Int8Product&, int64_t begin, int64_t end, int64_t panel);
};

// Items are panels of one chunk of rows, then of the next: a chunk stays in the cache while the weight passes by.
void multiply_panels(void* context, int64_t begin, int64_t end) {
    const PanelsJob& job = *static_cast<const PanelsJob*>(context);
    for (int64_t item = begin; item < end; ++item) {
        const int64_t row = item / job.panels * job.chunk_rows;
        job.multiply_panel(job.product, row, std::min(row + job.chunk_rows, job.product.m), item % job.panels);
    }
}

// Whole tiles, as many as stay in the cache, and no tiny chunk at the end.
int64_t rows_of_a_chunk(int64_t m, int64_t depth, int64_t tile) {
    const int64_t fit = std::min(MAX_CHUNK_ROWS, std::max<int64_t>(96, CHUNK_BYTES / depth / 96 * 96));
    const int64_t chunks = std::max<int64_t>(1, (m + fit - 1) / fit);
    return std::max<int64_t>(tile, ((m + chunks - 1) / chunks + tile - 1) / tile * tile);
}

bool fits(int64_t m, int64_t depth, int64_t group) {
    return m >= 0 && depth > 0 && depth % BLOCK == 0 && group > 0 && group % BLOCK == 0 && group <= MAX_GROUP;
}

}  // namespace
}  // namespace nomoat

// The name of the instruction set that `set` (0 to 4, see int8_up_to) means on this machine.
NM_EXPORT const char* nm_int8_instruction_set(int set) { return nomoat::int8_up_to(set).name; }

// x, float32 (m, columns) with rows x_stride apart -> bytes, 128 too large, (m, depth), and scales (m, groups), where
// depth is columns rounded up to a multiple of 64 and groups is depth / group rounded up. The columns `kept`, rising,
// count as zero there and go to kept_values (m, n_kept). Returns 0, or 1 for arguments that cannot be.
NM_EXPORT int nm_int8_quantize(int set, int threads, const float* x, int64_t m, int64_t columns, int64_t x_stride,
                               int64_t group, int rotated, const int64_t* kept, int64_t n_kept, uint8_t* bytes,
                               float* scales, float* kept_values) {
    const int64_t depth = (columns + nomoat::BLOCK - 1) / nomoat::BLOCK * nomoat::BLOCK;
    if (columns <= 0 || n_kept < 0 || !nomoat::fits(m, depth, group)) {
        return 1;
    }
    const int64_t groups = (depth + group - 1) / group;
    nomoat::RowsJob job = {{x, columns, x_stride, depth, group, groups, rotated != 0, kept, n_kept, bytes, scales,
                            kept_values},
                           nomoat::int8_up_to(set).quantize_row};
    nomoat::parallel_for(threads, m, std::max<int64_t>(1, 16384 / depth), nomoat::quantize_rows, &job);
    return 0;
}

// y, float32 (m, outputs) with rows y_stride apart, from quantized rows and a packed weight, plus bias if not null, plus
// what y holds if `add`. Returns 0, or 1 as above.
NM_EXPORT int nm_int8_product(int set, int threads, const uint8_t* rows, const float* row_scales,
                              const float* kept_values, int64_t m, int64_t depth, int64_t group, const int8_t* weights,
                              const float* weight_scales, const int32_t* starts, const float* kept_weights,
                              int64_t n_kept, int64_t outputs, const float* bias, float* y, int64_t y_stride,
                              int add) {
    if (!nomoat::fits(m, depth, group) || n_kept < 0 || outputs < 0 || y_stride < outputs) {
        return 1;
    }
    const int64_t groups = (depth + group - 1) / group, panels = (outputs + nomoat::PANEL - 1) / nomoat::PANEL;
    const nomoat::Int8Set chosen = nomoat::int8_up_to(set);
    const int64_t chunk_rows = nomoat::rows_of_a_chunk(m, depth, chosen.tile_rows);
    const int64_t chunks = (m + chunk_rows - 1) / chunk_rows;
    nomoat::PanelsJob job = {{rows, row_scales, kept_values, m, depth, group, groups, weights, weight_scales, starts,
                              kept_weights, n_kept, outputs, bias, y, y_stride, add != 0},
                             panels, chunk_rows, chosen.multiply_panel};
    nomoat::parallel_for(threads, panels * chunks, 1, nomoat::multiply_panels, &job);
    return 0;
}
