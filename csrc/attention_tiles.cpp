// Attention on machines with AMX tiles of bfloat16: products of scores and of values as in bfloat16.cpp, each float32
// number as the sum of two, the weights between them in float32.

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "amx.h"
#include "attention.h"
#include "bfloat16.h"

namespace nomoat {

#if NM_AMX

namespace {
#define NM_BODY "attention_tiles.inl"
#include "with_tiles.inl"
#undef NM_BODY
}  // namespace

void unpack_for_tiles(const Attention& job, const Document& doc, int64_t kv_head, const Room& room) {
    tiles::unpack(job, doc, kv_head, room);
}

void attend_with_tiles(const Attention& job, const Document& doc, int64_t head, const Room& room) {
    tiles::head(job, doc, head, room);
}

#else

void unpack_for_tiles(const Attention&, const Document&, int64_t, const Room&) {}
void attend_with_tiles(const Attention&, const Document&, int64_t, const Room&) {}

#endif

}  // namespace nomoat
