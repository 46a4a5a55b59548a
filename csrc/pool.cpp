#include "pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

#ifndef _WIN32
#include <dlfcn.h>
#include <pthread.h>
#endif
#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

namespace nomoat {
namespace {

constexpr int MAX_THREADS = 256;
// A decode step calls a few hundred kernels with some ten microseconds between them, less than it takes to wake a
// sleeping thread. So a worker looks out for the next job for about that long before it sleeps.
constexpr int SPINS = 1000;

inline void relax() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#elif defined(__aarch64__) && !defined(_MSC_VER)
    asm volatile("yield");
#endif
}

// One job in chunks: whoever is free takes the next.
struct Shares {
    Job job;
    void* context;
    int64_t n, chunk;
    std::atomic<int64_t> next{0};

    void take() {
        for (;;) {
            const int64_t begin = next.fetch_add(chunk, std::memory_order_relaxed);
            if (begin >= n) {
                return;
            }
            job(context, begin, std::min(begin + chunk, n));
        }
    }
};

// Our own threads. If another caller is in here already, the second does all its work itself.
class Pool {
public:
    void run(int threads, Shares& shares) {
        std::unique_lock<std::mutex> turn(turn_, std::try_to_lock);
        if (!turn.owns_lock()) {
            shares.take();
            return;
        }
        grow(threads - 1);
        {
            std::lock_guard<std::mutex> lock(mutex_);
            shares_ = &shares;
            places_ = threads - 1;
            epoch_.fetch_add(1, std::memory_order_release);
        }
        wake_.notify_all();
        shares.take();
        close();
    }

private:
    // No worker may join from here on; the ones inside finish their last chunk. A worker that has slept through the
    // whole job is not waited for.
    void close() {
        {
            std::lock_guard<std::mutex> lock(mutex_);
            places_ = 0;
        }
        while (inside_.load(std::memory_order_acquire) != 0) {
            relax();
        }
    }

    void grow(int wanted) {
        while (size_ < std::min(wanted, MAX_THREADS)) {
            try {
                std::thread([this] { serve(); }).detach();
            } catch (const std::system_error&) {
                return;  // the system gives no more threads; those there are, and the caller, do the work
            }
            ++size_;
        }
    }

    void serve() {
        uint64_t seen = 0;
        for (;;) {
            Shares* shares = nullptr;
            for (int i = 0; i < SPINS && epoch_.load(std::memory_order_acquire) == seen; ++i) {
                relax();
            }
            {
                std::unique_lock<std::mutex> lock(mutex_);
                wake_.wait(lock, [&] { return epoch_.load(std::memory_order_relaxed) != seen; });
                seen = epoch_.load(std::memory_order_relaxed);
                if (places_ == 0) {
                    continue;
                }
                --places_;
                inside_.fetch_add(1, std::memory_order_relaxed);
                shares = shares_;
            }
            shares->take();
            inside_.fetch_sub(1, std::memory_order_release);
        }
    }

    std::mutex turn_;  // held by the one caller whose job is running
    std::mutex mutex_;
    std::condition_variable wake_;
    std::atomic<uint64_t> epoch_{0};  // counts jobs
    std::atomic<int> inside_{0};
    int places_ = 0;  // workers that may still join the present job
    int size_ = 0;
    Shares* shares_ = nullptr;  // of the present job; the caller waits until no worker is inside
};

// Never destroyed: at the end of the process the workers are asleep in it.
std::atomic<Pool*> current{nullptr};

Pool& pool() {
    Pool* found = current.load(std::memory_order_acquire);
    if (found == nullptr) {
        Pool* made = new Pool;
        if (current.compare_exchange_strong(found, made)) {
#ifndef _WIN32
            // Threads do not survive a fork; the child makes a pool of its own.
            pthread_atfork(nullptr, nullptr, [] { current.store(nullptr); });
#endif
            return *made;
        }
        delete made;
    }
    return *found;
}

// What a compiler makes of "#pragma omp parallel num_threads(...)" (libgomp ABI; LLVM's runtime has it too).
using Parallel = void (*)(void (*work)(void*), void* data, unsigned threads, unsigned flags);

std::atomic<bool> forked{false};

// The OpenMP runtime that this process has loaded, which is torch's; null if there is none, or it is of another kind,
// or its threads were lost in a fork.
Parallel loaded_openmp() {
#ifdef _WIN32
    return nullptr;
#else
    static const Parallel found = [] {
        pthread_atfork(nullptr, nullptr, [] { forked.store(true); });
        return reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
    }();
    return forked.load(std::memory_order_relaxed) ? nullptr : found;
#endif
}

}  // namespace

void parallel_for(int threads, int64_t n, int64_t chunk, Job job, void* context) {
    if (threads <= 1 || n <= chunk) {
        job(context, 0, n);
        return;
    }
    Shares shares{job, context, n, chunk};
    if (const Parallel parallel = loaded_openmp()) {
        const auto take = [](void* all) { static_cast<Shares*>(all)->take(); };
        parallel(take, &shares, static_cast<unsigned>(threads), 0);
        return;
    }
    pool().run(threads, shares);
}

}  // namespace nomoat
