#include "probe.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <limits>
#include <memory>
#include <new>
#include <thread>
#include <vector>

#include "dispatch.hpp"
#include "team.hpp"

#if defined(__linux__)
#include <pthread.h>
#include <sched.h>
#endif

namespace pyrnn {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Others may use the machine: the shortest of several stretches is the one they disturbed least. The
// system needs some milliseconds to give each new thread a core of its own.
constexpr int stretches = 7;
constexpr double at_least = 0.03;  // seconds

struct Shortest {
  int threads = 1;  // that there really were
  double seconds = std::numeric_limits<double>::infinity();
};

// Every thread runs work(worker) between two barriers.
template <class Work>
Shortest shortest(int threads, Work work) {
  struct Context {
    Work& work;
    Shortest found;
    Clock::time_point begin;
    bool enough;  // the first worker's word, read by all after the barrier
  } context{work, {}, Clock::now(), false};
  Team team(nullptr);
  const auto body = [](void* given, Worker& worker) {
    auto& [run, found, begin, enough] = *static_cast<Context*>(given);
    for (int i = 0;; ++i) {
      if (worker.index == 0) {
        found.threads = worker.count;
        enough = i >= stretches && seconds_since(begin) > at_least;
      }
      if (!worker.barrier() || enough) return;
      const auto start = Clock::now();
      run(worker);
      if (!worker.barrier()) return;
      if (worker.index == 0) found.seconds = std::min(found.seconds, seconds_since(start));
    }
  };
  team.run(threads, body, &context);
  return context.found;
}

constexpr std::size_t line = 64;

struct Free {
  void operator()(float* data) const { std::free(data); }
};

// [n], on a line: a load that crosses two counts twice.
std::unique_ptr<float[], Free> lines(Index n) {
  const std::size_t bytes = (static_cast<std::size_t>(n) * sizeof(float) + line - 1) / line * line;
  std::unique_ptr<float[], Free> data(static_cast<float*>(std::aligned_alloc(line, bytes)));
  if (data == nullptr) throw std::bad_alloc();
  return data;
}

// The calling thread alone: pinned from outside, one that has ended already has thread id 0, which the system
// takes for the caller. Where it is refused, the latency is that of wherever the threads run.
void pin(int cpu) {
#if defined(__linux__)
  cpu_set_t one;
  CPU_ZERO(&one);
  CPU_SET(cpu, &one);
  pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
#else
  static_cast<void>(cpu);
#endif
}

// The processors that this thread may run on, at most two.
std::vector<int> two_processors() {
  std::vector<int> found;
#if defined(__linux__)
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) {
    for (int cpu = 0; cpu < CPU_SETSIZE && found.size() < 2; ++cpu) {
      if (CPU_ISSET(cpu, &allowed)) found.push_back(cpu);
    }
    return found;
  }
#endif
  for (int cpu = 0; cpu < 2 && cpu < static_cast<int>(std::thread::hardware_concurrency()); ++cpu) {
    found.push_back(cpu);
  }
  return found;
}

}  // namespace

template <class T>
double fma_rate(int threads) {
  constexpr Index rounds = 400'000;  // about a millisecond
  Index flops = 0;
  const auto result = shortest(threads, [&](Worker& worker) {
    T sink;
    const Index done = kernels().of<T>().probe(rounds, &sink);
    if (worker.index == 0) flops = done;
  });
  return static_cast<double>(flops) * result.threads / result.seconds * 1e-9;
}

template double fma_rate<float>(int threads);
template double fma_rate<double>(int threads);

double read_rate(Index bytes, int threads) {
  const Index n = bytes / Index(sizeof(float));
  const Index rounds = 1 + (Index{32} << 20) / bytes;  // 0.1 ms and more
  struct Own {
    std::unique_ptr<float[], Free> data;
    bool written;
  };
  std::vector<Own> owned;
  for (int i = 0; i < threads; ++i) owned.push_back({lines(n), false});
  const auto result = shortest(threads, [&](Worker& worker) {
    Own& own = owned[static_cast<std::size_t>(worker.index)];
    if (!own.written) {
      // By the thread that reads it, so that the pages are near its core; this stretch is not the shortest.
      std::fill_n(own.data.get(), n, 1.0F);
      own.written = true;
    }
    float sink;
    kernels().f32.read(own.data.get(), n, rounds, &sink);
  });
  return static_cast<double>(rounds * bytes) * result.threads / result.seconds * 1e-9;
}

double region_time(int threads) {
  constexpr int regions = 200;
  double best = std::numeric_limits<double>::infinity();
  Team team(nullptr);
  for (int i = 0; i < stretches; ++i) {
    const auto start = Clock::now();
    for (int k = 0; k < regions; ++k) team.run(threads, [](void*, Worker&) {}, nullptr);
    best = std::min(best, seconds_since(start) / regions);
  }
  return best * 1e9;
}

double barrier_time(int threads) {
  constexpr int barriers = 1000;
  const auto result = shortest(threads, [](Worker& worker) {
    for (int k = 0; k < barriers && worker.barrier(); ++k) {
    }
  });
  return result.seconds / barriers * 1e9;
}

double core_latency() {
  const std::vector<int> cpus = two_processors();
  if (cpus.size() < 2) return std::numeric_limits<double>::quiet_NaN();
  constexpr int exchanges = 2000, batches = 15;
  struct alignas(2 * line) Turn {
    std::atomic<int> count{0};
  } turn;
  // Waits for the other, bounded: on a busy machine it may not be running at all.
  const auto await = [&turn](int count) {
    for (int spin = 0; turn.count.load(std::memory_order_acquire) != count; ++spin) {
      if (spin > 100'000) std::this_thread::yield();
    }
  };
  double nanoseconds[batches];
  std::thread other([&] {
    pin(cpus[0]);
    for (int k = 0; k < batches * exchanges; ++k) {
      await(2 * k + 1);
      turn.count.store(2 * k + 2, std::memory_order_release);
    }
  });
  std::thread first([&] {
    pin(cpus[1]);
    for (int batch = 0; batch < batches; ++batch) {
      const auto start = Clock::now();
      for (int k = batch * exchanges; k < (batch + 1) * exchanges; ++k) {
        turn.count.store(2 * k + 1, std::memory_order_release);
        await(2 * k + 2);
      }
      nanoseconds[batch] = seconds_since(start) / (2 * exchanges) * 1e9;
    }
  });
  other.join();
  first.join();
  std::sort(nanoseconds, nanoseconds + batches);
  return nanoseconds[batches / 2];
}

}  // namespace pyrnn
