// The threads of one call: one parallel region, a barrier with bounded spinning, a scratch buffer kept
// between calls, and the way in which a call is interrupted. Nothing here is compiled per ISA.
#pragma once

#include <atomic>
#include <cstddef>

namespace pyrnn {

class Team;

// One thread inside a parallel region.
class Worker {
 public:
  Worker(Team& team, int index, int count);
  // Both answer false once the call is cancelled; the body must then return at once.
  [[nodiscard]] bool barrier();
  // The halves of a barrier: to say that this worker has come so far, and to wait for one other.
  void arrive();
  [[nodiscard]] bool await(int other) const;
  // Called every so often with the multiply-adds since the last time.
  [[nodiscard]] bool proceed(double work);

  const int index;
  const int count;

 private:
  Team& team_;
  unsigned epoch_;  // arrivals
  double work_since_poll_ = 0;
};

// Asked by the calling thread now and then during a long call; true stops the call.
using Interrupted = bool (*)();

class Team {
 public:
  using Body = void (*)(void* context, Worker& worker);

  explicit Team(Interrupted interrupted) : interrupted_(interrupted) {}
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  // The most threads that run() may use.
  static int max_threads();
  // At least `bytes`, aligned to a cache line, valid until the next call on this thread.
  static void* scratch(std::size_t bytes);
  // Runs body(context, worker) on up to `threads` threads and waits for all of them.
  void run(int threads, Body body, void* context);
  [[nodiscard]] bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

 private:
  friend class Worker;

  Interrupted interrupted_;
  std::atomic<bool> cancelled_{false};
  long long next_poll_ = 0;  // nanoseconds; the calling thread's own
  struct Flag;
  Flag* flags_ = nullptr;  // one a worker
};

// 0 returns to what OpenMP offers.
void set_num_threads(int n);

}  // namespace pyrnn
