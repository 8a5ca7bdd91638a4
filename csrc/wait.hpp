// How one thread waits for another: by spinning, as long as the other is likely to be running.
#pragma once

#include <chrono>
#include <cstddef>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <sched.h>
#include <time.h>
#endif

namespace pyrnn {

// Processors fetch cache lines of 64 bytes in pairs.
constexpr std::size_t line_pair = 128;

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

// The processor that the calling thread runs on, -1 where the system does not tell.
inline int current_cpu() {
#if defined(__linux__)
  return sched_getcpu();
#else
  return -1;
#endif
}

// A thread that was asleep is often woken on the processor of the one that wakes it, which goes on there:
// both then share it for milliseconds while others idle. Moves the calling thread off `cpu`; where it may
// run does not change.
inline void leave_cpu([[maybe_unused]] int cpu) {
#if defined(__linux__)
  cpu_set_t allowed;
  if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getcpu() != cpu ||
      sched_getaffinity(0, sizeof(allowed), &allowed) != 0) {
    return;
  }
  cpu_set_t others = allowed;
  CPU_CLR(static_cast<std::size_t>(cpu), &others);
  if (CPU_COUNT(&others) > 0 && sched_setaffinity(0, sizeof(others), &others) == 0) {
    (void)sched_setaffinity(0, sizeof(allowed), &allowed);
  }
#endif
}

// About 20 us of pauses: longer than any step that is worth sharing, shorter than a time slice.
constexpr int spins_before_yield = 2000;

inline long long now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

// The processor time that one thread has had, which others may read: of a thread that is waited for, it
// tells whether it works or has been put aside.
class CpuClock {
 public:
  CpuClock() = default;
  static CpuClock of_this_thread() {
    CpuClock clock;
#if defined(__linux__)
    clock.known_ = pthread_getcpuclockid(pthread_self(), &clock.id_) == 0;
#endif
    return clock;
  }
  // False where the system does not tell.
  [[nodiscard]] bool known() const { return known_; }
  [[nodiscard]] long long ns() const {
#if defined(__linux__)
    timespec time{};
    if (known_ && clock_gettime(id_, &time) == 0) {
      return static_cast<long long>(time.tv_sec) * 1'000'000'000 + time.tv_nsec;
    }
#endif
    return 0;
  }

 private:
  bool known_ = false;
#if defined(__linux__)
  clockid_t id_{};
#endif
};

}  // namespace pyrnn
