// Rows of floats to rows of bytes. Twin: src/nomoat/kernels/int8_reference.py, with the same bits.
// Included once per instruction set, inside its namespace; see int8.h.

constexpr float SMALLEST = 1e-30f;  // a group below this counts as zero: 127 / largest must not overflow
constexpr int32_t INFINITY_BITS = 0x7F800000;

// The Walsh-Hadamard transform of BLOCK numbers, without its factor of 1/8: log2(BLOCK) rounds of sums and differences
// of neighbours 1, 2, 4 ... apart. The order of the rounds is part of the result's last bits.
#if NM_INT8 >= 512

static inline __m512 butterfly(__m512 x, __m512 swapped, int differences) {
    return _mm512_mask_sub_ps(_mm512_add_ps(x, swapped), static_cast<__mmask16>(differences), swapped, x);
}

static inline void rotate(const float* in, float* out) {
    __m512 v[4];
    for (int i = 0; i < 4; ++i) {
        __m512 x = _mm512_loadu_ps(in + 16 * i);
        x = butterfly(x, _mm512_permute_ps(x, 0xB1), 0xAAAA);
        x = butterfly(x, _mm512_permute_ps(x, 0x4E), 0xCCCC);
        x = butterfly(x, _mm512_shuffle_f32x4(x, x, 0xB1), 0xF0F0);
        v[i] = butterfly(x, _mm512_shuffle_f32x4(x, x, 0x4E), 0xFF00);
    }
    const __m512 a = _mm512_add_ps(v[0], v[1]), b = _mm512_sub_ps(v[0], v[1]);
    const __m512 c = _mm512_add_ps(v[2], v[3]), d = _mm512_sub_ps(v[2], v[3]);
    _mm512_storeu_ps(out, _mm512_add_ps(a, c));
    _mm512_storeu_ps(out + 16, _mm512_add_ps(b, d));
    _mm512_storeu_ps(out + 32, _mm512_sub_ps(a, c));
    _mm512_storeu_ps(out + 48, _mm512_sub_ps(b, d));
}

static inline int32_t largest_bits(const float* in, int64_t n) {
    __m512i most = _mm512_setzero_si512();
    for (int64_t i = 0; i < n; i += 16) {
        most = _mm512_max_epi32(most, _mm512_and_si512(_mm512_loadu_si512(in + i), _mm512_set1_epi32(0x7FFFFFFF)));
    }
    return _mm512_reduce_max_epi32(most);
}

static inline void to_bytes(const float* in, int64_t n, float by, uint8_t* out) {
    for (int64_t i = 0; i < n; i += 16) {
        const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(in + i), _mm512_set1_ps(by)));
        const __m128i bytes = _mm_xor_si128(_mm512_cvtepi32_epi8(whole), _mm_set1_epi8(static_cast<char>(0x80)));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), bytes);
    }
}

#elif NM_INT8 == 257 || NM_INT8 == 256

static inline void rotate(const float* in, float* out) {
    __m256 v[8];
    for (int i = 0; i < 8; ++i) {
        __m256 x = _mm256_loadu_ps(in + 8 * i), other = _mm256_permute_ps(x, 0xB1);
        x = _mm256_blend_ps(_mm256_add_ps(x, other), _mm256_sub_ps(other, x), 0xAA);
        other = _mm256_permute_ps(x, 0x4E);
        x = _mm256_blend_ps(_mm256_add_ps(x, other), _mm256_sub_ps(other, x), 0xCC);
        other = _mm256_permute2f128_ps(x, x, 1);
        v[i] = _mm256_blend_ps(_mm256_add_ps(x, other), _mm256_sub_ps(other, x), 0xF0);
    }
    for (int apart = 1; apart < 8; apart *= 2) {
        for (int i = 0; i < 8; ++i) {
            if ((i & apart) == 0) {
                const __m256 first = v[i], second = v[i + apart];
                v[i] = _mm256_add_ps(first, second);
                v[i + apart] = _mm256_sub_ps(first, second);
            }
        }
    }
    for (int i = 0; i < 8; ++i) {
        _mm256_storeu_ps(out + 8 * i, v[i]);
    }
}

static inline int32_t largest_bits(const float* in, int64_t n) {
    __m256i most = _mm256_setzero_si256();
    for (int64_t i = 0; i < n; i += 8) {
        const __m256i bits = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + i));
        most = _mm256_max_epi32(most, _mm256_and_si256(bits, _mm256_set1_epi32(0x7FFFFFFF)));
    }
    alignas(32) int32_t lanes[8];
    _mm256_store_si256(reinterpret_cast<__m256i*>(lanes), most);
    return *std::max_element(lanes, lanes + 8);
}

static inline void to_bytes(const float* in, int64_t n, float by, uint8_t* out) {
    for (int64_t i = 0; i < n; i += 16) {
        const __m256 scale = _mm256_set1_ps(by);
        const __m256i first = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(in + i), scale));
        const __m256i second = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(in + i + 8), scale));
        const __m256i words = _mm256_permute4x64_epi64(_mm256_packs_epi32(first, second), 0xD8);
        const __m128i bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
        const __m128i turned = _mm_xor_si128(bytes, _mm_set1_epi8(static_cast<char>(0x80)));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), turned);
    }
}

#else

static inline void rotate(const float* in, float* out) {
    std::memcpy(out, in, BLOCK * sizeof(float));
    for (int apart = 1; apart < BLOCK; apart *= 2) {
        for (int i = 0; i < BLOCK; i += 2 * apart) {
            for (int j = i; j < i + apart; ++j) {
                const float first = out[j], second = out[j + apart];
                out[j] = first + second;
                out[j + apart] = first - second;
            }
        }
    }
}

static inline int32_t largest_bits(const float* in, int64_t n) {
    int32_t most = 0;
    for (int64_t i = 0; i < n; ++i) {
        int32_t bits;
        std::memcpy(&bits, in + i, sizeof bits);
        most = std::max(most, bits & 0x7FFFFFFF);
    }
    return most;
}

static inline void to_bytes(const float* in, int64_t n, float by, uint8_t* out) {
    for (int64_t i = 0; i < n; ++i) {
        const float rounded = in[i] * by + 12582912.0f;  // 1.5 * 2^23: the last bit is the unit, ties go to even
        int32_t bits;
        std::memcpy(&bits, &rounded, sizeof bits);
        out[i] = static_cast<uint8_t>((bits & 0xFF) ^ 0x80);
    }
}

#endif

// BLOCK numbers of a row from column `first`, with zeros for columns beyond the end, and for those in job.kept, whose
// values go to `kept` as they are. `next` is the place in job.kept.
static const float* block_of(const Int8Rows& job, int64_t row, int64_t first, float* room, int64_t* next) {
    const float* in = job.x + row * job.x_stride + first;
    const int64_t there = job.columns - first;
    const bool keeps = *next < job.n_kept && job.kept[*next] < first + BLOCK;
    if (there >= BLOCK && !keeps) {
        return in;
    }
    std::memset(room, 0, BLOCK * sizeof(float));
    if (there > 0) {
        std::memcpy(room, in, static_cast<size_t>(std::min<int64_t>(there, BLOCK)) * sizeof(float));
    }
    for (; *next < job.n_kept && job.kept[*next] < first + BLOCK; ++*next) {
        float& value = room[job.kept[*next] - first];
        job.kept_values[row * job.n_kept + *next] = value;
        value = 0.0f;
    }
    return room;
}

// One row of floats to bytes 128 too large and one scale a group.
// A group that holds infinities or NaN gets the scale NaN, so that they are not lost on the way.
static void quantize_row(const Int8Rows& job, int64_t row) {
    alignas(64) float values[MAX_GROUP];
    alignas(64) float room[BLOCK];
    int64_t next = 0;
    for (int64_t g = 0, k = 0; k < job.depth; ++g, k += job.group) {
        const int64_t n = std::min(job.group, job.depth - k);
        for (int64_t i = 0; i < n; i += BLOCK) {
            const float* in = block_of(job, row, k + i, room, &next);
            if (job.rotated) {
                rotate(in, values + i);
            } else {
                std::memcpy(values + i, in, BLOCK * sizeof(float));
            }
        }
        const int32_t bits = largest_bits(values, n);
        float largest;
        std::memcpy(&largest, &bits, sizeof largest);
        float scale = largest / (job.rotated ? 127.0f * 8.0f : 127.0f), by = 127.0f / largest;
        if (bits >= INFINITY_BITS) {
            scale = std::numeric_limits<float>::quiet_NaN();
            by = 0.0f;
            std::memset(values, 0, sizeof values);
        } else if (largest < SMALLEST) {
            scale = by = 0.0f;
        }
        job.scales[row * job.groups + g] = scale;
        to_bytes(values, n, by, job.bytes + row * job.depth + k);
    }
}
