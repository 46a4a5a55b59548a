// One small pool of threads for all kernels. Not OpenMP: torch brings its own OpenMP runtime, and two in one process
// take each other's cores.

#pragma once

#include <cstdint>

namespace nomoat {

// Work on items [begin, end).
using Job = void (*)(void* context, int64_t begin, int64_t end);

// Run `job` over [0, n) in chunks of `chunk` items on up to `threads` threads, the caller's among them, and return when
// all is done. Which thread gets which chunk is not fixed, so a job writes only what belongs to its own items.
// If another thread is in here already, the caller does all its work itself.
void parallel_for(int threads, int64_t n, int64_t chunk, Job job, void* context);

}  // namespace nomoat
