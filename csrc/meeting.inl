// A tile of queries that meets a tile of keys: which of them sees which. Included after floats.inl, once per instruction
// set.

static inline int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
static inline int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// rows x C from `from` to rows of `padded` floats, times `by`; zeros behind C.
static void copy_rows(const float* from, int64_t from_row, int64_t rows, int64_t c, float by, float* to,
                      int64_t padded) {
    for (int64_t r = 0; r < rows; ++r) {
        for (int64_t i = 0; i < padded; i += W) {
            store(to + r * padded + i, i < c ? mul(at(from + r * from_row + i, c - i), all(by)) : all(0));
        }
    }
}

// One tile of queries from i0 on against one of keys from j0 on. Key j0 + j is visible to row r for
// low(r) <= j < high(r).
struct Meeting {
    int64_t i0, queries, j0, keys, window;

    int64_t high(int64_t r) const { return larger(0, smaller(keys, i0 + r + 1 - j0)); }
    int64_t low(int64_t r) const { return window == 0 ? 0 : larger(0, i0 + r + 1 - window - j0); }
    // Keys that any of the rows from r on, up to `rows` of them, may see: the last one sees furthest.
    int64_t reach(int64_t r, int64_t rows) const { return high(smaller(r + rows, queries) - 1); }
};

// v where low <= j < high for the columns j + lane, else `other`.
static inline Floats where_seen(Floats v, int64_t j, int64_t low, int64_t high, Floats other) {
    if (j >= low && j + W <= high) {
        return v;
    }
    return before(low - j, other, before(high - j, v, other));
}
