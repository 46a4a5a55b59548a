// Threads for all kernels: those of the OpenMP runtime that torch has loaded, or where there is none of its kind a small
// pool of our own. Two sets of threads in one process take each other's cores: OpenMP's look out for work for
// milliseconds after every operation, and a step of training then ran no faster on two cores than on one.

#pragma once

#include <cstdint>

namespace nomoat {

// Work on items [begin, end).
using Job = void (*)(void* context, int64_t begin, int64_t end);

// Run `job` over [0, n) in chunks of `chunk` items on up to `threads` threads, the caller's among them, and return when
// all is done. Which thread gets which chunk is not fixed, so a job writes only what belongs to its own items.
void parallel_for(int threads, int64_t n, int64_t chunk, Job job, void* context);

// A job as a struct and the function that works on items [begin, end) of it.
template <typename T>
struct Work {
    const T* job;
    void (*on)(const T&, int64_t, int64_t);
};

template <typename T>
void do_work(void* context, int64_t begin, int64_t end) {
    const Work<T>& work = *static_cast<const Work<T>*>(context);
    work.on(*work.job, begin, end);
}

// The same for such a job.
template <typename T>
void parallel_over(int threads, int64_t n, int64_t chunk, const T& job, void (*on)(const T&, int64_t, int64_t)) {
    Work<T> work = {&job, on};
    parallel_for(threads, n, chunk, do_work<T>, &work);
}

}  // namespace nomoat
