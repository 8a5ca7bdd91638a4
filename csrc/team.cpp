#include "team.hpp"

#include <chrono>
#include <new>

#include "scratch.hpp"

#ifdef _OPENMP
#include <omp.h>
#endif
#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <sched.h>
#endif

namespace pyrnn {
namespace {

std::atomic<int> chosen_threads{0};

// OpenMP's threads do not survive a fork, and entering a parallel region in the child would wait for
// them for ever: a child runs every call on its calling thread.
std::atomic<bool> forked{false};

#if defined(__unix__) || defined(__APPLE__)
[[maybe_unused]] const int fork_handler =
    pthread_atfork(nullptr, nullptr, [] { forked.store(true, std::memory_order_relaxed); });
#endif

long long now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// A user presses Ctrl-C and expects an answer within a second.
constexpr long long poll_interval_ns = 50'000'000;

// Some tens of microseconds: reading the clock then costs nothing.
constexpr double work_between_polls = 2e6;

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

inline void yield() {
#if defined(__unix__) || defined(__APPLE__)
  sched_yield();
#endif
}

// About 20 us of pauses: longer than any step that is worth sharing, shorter than a time slice.
constexpr int spins_before_yield = 2000;

}  // namespace

// How often a worker has arrived, on lines of its own: it writes one and reads the others', one
// transfer between cores where a shared counter would take three.
struct alignas(Scratch::pair) Team::Flag {
  std::atomic<unsigned> epoch;
};

Worker::Worker(Team& team, int index, int count)
    : index(index), count(count), team_(team), epoch_(0) {}

void Worker::arrive() {
  if (count == 1) return;
  ++epoch_;
  team_.flags_[index].epoch.store(epoch_, std::memory_order_release);
}

bool Worker::await(int other) const {
  if (count == 1) return !team_.cancelled();
  // The other may be ahead by one arrival, never more.
  for (int spin = 0; team_.flags_[other].epoch.load(std::memory_order_acquire) - epoch_ > 1;
       ++spin) {
    if (team_.cancelled()) return false;
    if (spin < spins_before_yield) {
      pause();
    } else {
      yield();
    }
  }
  return !team_.cancelled();
}

bool Worker::barrier() {
  arrive();
  for (int other = 0; other < count; ++other) {
    if (!await(other)) return false;
  }
  return !team_.cancelled();
}

bool Worker::proceed(double work) {
  work_since_poll_ += work;
  if (index == 0 && work_since_poll_ > work_between_polls && team_.interrupted_ != nullptr) {
    work_since_poll_ = 0;
    const long long now = now_ns();
    if (now >= team_.next_poll_) {
      team_.next_poll_ = now + poll_interval_ns;
      if (team_.interrupted_()) team_.cancelled_.store(true, std::memory_order_relaxed);
    }
  }
  return !team_.cancelled();
}

int Team::max_threads() {
  if (forked.load(std::memory_order_relaxed)) return 1;
  const int chosen = chosen_threads.load(std::memory_order_relaxed);
  if (chosen > 0) return chosen;
#ifdef _OPENMP
  return omp_get_max_threads();
#else
  return 1;
#endif
}

void set_num_threads(int n) { chosen_threads.store(n, std::memory_order_relaxed); }

void* Team::scratch(std::size_t bytes) {
  thread_local Scratch held;
  return held.at_least(bytes);
}

void Team::run(int threads, Body body, void* context) {
  next_poll_ = now_ns() + poll_interval_ns;
#ifdef _OPENMP
  if (threads > 1) {
    thread_local Scratch flags;
    flags_ = static_cast<Flag*>(flags.at_least(static_cast<std::size_t>(threads) * sizeof(Flag)));
    for (int i = 0; i < threads; ++i) new (flags_ + i) Flag{{0}};
#pragma omp parallel num_threads(threads)
    {
      Worker worker(*this, omp_get_thread_num(), omp_get_num_threads());
      body(context, worker);
    }
    return;
  }
#endif
  Worker worker(*this, 0, 1);
  body(context, worker);
}

}  // namespace pyrnn
