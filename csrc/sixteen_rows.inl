// Sixteen rows of stored blocks side by side: how they are read, and their scales. Included inside a namespace compiled
// for AVX-512; see few.cpp and limbs.cpp.

constexpr int64_t ROWS = 16;  // of weights that are unpacked side by side

// Sixteen rows of blocks, `apart` bytes apart.
struct SixteenRows {
    const uint8_t* in;
    int64_t apart;

    NM_INLINE __m512i dwords(int64_t at) const {  // four bytes of every row; to gather them takes longer
        __m512i found = _mm512_castsi128_si512(four_dwords(in + at));
        found = _mm512_inserti32x4(found, four_dwords(in + at + 4 * apart), 1);
        found = _mm512_inserti32x4(found, four_dwords(in + at + 8 * apart), 2);
        return _mm512_inserti32x4(found, four_dwords(in + at + 12 * apart), 3);
    }

    NM_INLINE __m128i four_dwords(const uint8_t* from) const {
        __m128i four = _mm_cvtsi32_si128(static_cast<int>(dword_at(from)));
        four = _mm_insert_epi32(four, static_cast<int>(dword_at(from + apart)), 1);
        four = _mm_insert_epi32(four, static_cast<int>(dword_at(from + 2 * apart)), 2);
        return _mm_insert_epi32(four, static_cast<int>(dword_at(from + 3 * apart)), 3);
    }

    static NM_INLINE uint32_t dword_at(const uint8_t* from) {
        uint32_t four;
        std::memcpy(&four, from, sizeof four);
        return four;
    }

    NM_INLINE __m512i fours(int64_t at, int i) const {  // sixteen bytes of rows i, i + 4, i + 8 and i + 12
        const uint8_t* from = in + at + i * apart;
        __m512i found = _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from)));
        found = _mm512_inserti32x4(found, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 4 * apart)), 1);
        found = _mm512_inserti32x4(found, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 8 * apart)), 2);
        return _mm512_inserti32x4(found, _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + 12 * apart)), 3);
    }

    // Sixteen bytes of every row as four times a dword of every row.
    NM_INLINE void transposed(int64_t at, __m512i* out) const {
        const __m512i a = fours(at, 0), b = fours(at, 1), c = fours(at, 2), d = fours(at, 3);
        const __m512i low = _mm512_unpacklo_epi32(a, b), high = _mm512_unpackhi_epi32(a, b);
        const __m512i low_too = _mm512_unpacklo_epi32(c, d), high_too = _mm512_unpackhi_epi32(c, d);
        out[0] = _mm512_unpacklo_epi64(low, low_too);
        out[1] = _mm512_unpackhi_epi64(low, low_too);
        out[2] = _mm512_unpacklo_epi64(high, high_too);
        out[3] = _mm512_unpackhi_epi64(high, high_too);
    }
};

// mask ? a : b, bit by bit.
static NM_INLINE __m512i chosen_bits(__m512i mask, __m512i a, __m512i b) {
    return _mm512_ternarylogic_epi32(mask, a, b, 0xCA);
}

// v >> by, or to the left if that is negative.
template <int By>
static NM_INLINE __m512i moved(__m512i v) {
    return By >= 0 ? _mm512_srli_epi32(v, By >= 0 ? By : 0) : _mm512_slli_epi32(v, By >= 0 ? 0 : -By);
}

// The half in the lower or upper 16 bits of every dword.
static NM_INLINE __m512 lower_halves(__m512i v) { return _mm512_cvtph_ps(_mm512_cvtepi32_epi16(v)); }
static NM_INLINE __m512 upper_halves(__m512i v) { return lower_halves(_mm512_srli_epi32(v, 16)); }

// The numbers lie about zero, so that sums stay small: m is that of the middle.
static NM_INLINE void store_about(float middle, __m512 scale, __m512 min, float* d, float* m) {
    _mm512_store_ps(d, scale);
    _mm512_store_ps(m, _mm512_fmadd_ps(scale, _mm512_set1_ps(middle), min));
}

// The scales d sc and minima -dmin m of eight runs of 32 weights of Q4_K and Q5_K, from the first 16 bytes; see
// read_pairs in blocks512.inl. Those of the next run lie `apart` floats on. `middle` as in store_about.
static NM_INLINE void eight_scales(const SixteenRows& rows, float middle, float* to, float* to_min, int64_t apart) {
    __m512i dword[4];
    rows.transposed(0, dword);
    const __m512i six = _mm512_set1_epi8(63), four = _mm512_set1_epi8(15), two = _mm512_set1_epi8(3);
    const __m512i top = _mm512_slli_epi32(_mm512_and_si512(_mm512_srli_epi32(dword[1], 6), two), 4);
    const __m512i top_min = _mm512_slli_epi32(_mm512_and_si512(_mm512_srli_epi32(dword[2], 6), two), 4);
    const __m512i scales[2] = {_mm512_and_si512(dword[1], six),
                               _mm512_or_si512(_mm512_and_si512(dword[3], four), top)};
    const __m512i minima[2] = {
        _mm512_and_si512(dword[2], six),
        _mm512_or_si512(_mm512_and_si512(_mm512_srli_epi32(dword[3], 4), four), top_min)};
    const __m512 d = lower_halves(dword[0]), dmin = upper_halves(dword[0]);
    const __m512i byte = _mm512_set1_epi32(255);
    for (int run = 0; run < 8; ++run, to += apart, to_min += apart) {
        const __m128i by = _mm_cvtsi32_si128(run % 4 * 8);
        const __m512i scale = _mm512_and_si512(_mm512_srl_epi32(scales[run / 4], by), byte);
        const __m512i min = _mm512_and_si512(_mm512_srl_epi32(minima[run / 4], by), byte);
        const __m512 below = _mm512_mul_ps(dmin, _mm512_cvtepi32_ps(min));
        store_about(middle, _mm512_mul_ps(d, _mm512_cvtepi32_ps(scale)),
                    _mm512_sub_ps(_mm512_setzero_ps(), below), to, to_min);
    }
}

// The scales of sixteen runs of 16 weights of Q6_K, `apart` floats from one to the next.
static NM_INLINE void sixteen_scales(const SixteenRows& rows, float* to, int64_t apart) {
    __m512i dword[4];
    rows.transposed(192, dword);
    const __m512 d = upper_halves(rows.dwords(206));
    for (int run = 0; run < 16; ++run, to += apart) {
        const __m512i up = _mm512_sll_epi32(dword[run / 4], _mm_cvtsi32_si128(24 - 8 * (run % 4)));
        const __m512 scale = _mm512_cvtepi32_ps(_mm512_srai_epi32(up, 24));
        _mm512_store_ps(to, _mm512_mul_ps(d, scale));
    }
}
