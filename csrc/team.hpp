// The threads of one call: who takes part, how they meet, what happens when one is put aside by the
// system, and the way in which a call is interrupted. Nothing here is compiled per ISA.
#pragma once

#include <atomic>
#include <cstddef>

#include "pool.hpp"

namespace pyrnn {

class Team;

// One thread inside a run, within the group that works on one job.
class Worker {
 public:
  // Each answers false once the call is cancelled, or has gone on without this worker; the body must then
  // return at once.
  //
  // arrive() says that this worker has passed one more point; await(other) waits until `other` has passed
  // as many, and then sees all that it wrote before. Between two arrivals a worker awaits all others.
  [[nodiscard]] bool arrive();
  [[nodiscard]] bool await(int other);
  // Arrives and awaits all; an arrival before it may be awaited by none yet.
  [[nodiscard]] bool barrier();
  // Called every so often with the multiply-adds since the last time.
  [[nodiscard]] bool proceed(double work);

  // Says that all workers of this job have finished `steps` steps of it: meets them first.
  [[nodiscard]] bool publish(std::ptrdiff_t steps);
  // Waits until that was said of an earlier job.
  [[nodiscard]] bool await_steps(int earlier, std::ptrdiff_t steps);

  const int job;
  const int index;
  // Where shares may be handed over (Run), arrive() may leave worker 0 alone, with count 1: it has then
  // awaited the others at this point, and all that is left is its own.
  int count;

 private:
  friend class Team;
  Worker(Team& team, int thread, int group, int job, int index, int count);
  [[nodiscard]] bool part();
  [[nodiscard]] bool await_others();

  Team& team_;
  const int first_;  // thread of worker 0
  const int group_;
  unsigned points_ = 0;  // passed
  double work_since_poll_ = 0;
};

// Asked by the calling thread now and then during a long call; true stops the call.
using Interrupted = bool (*)();

// What Team::run is given beside the body.
struct Run {
  int threads = 1;  // the most
  // Multiply-adds in all, which say how long to wait for a thread to come; 0 where they are not known.
  double work = 0;
  // Independent or chained (Worker::await_steps) jobs. With fewer threads than jobs each thread takes one
  // job after the other, in order; with more, each job has a group of threads.
  int jobs = 1;
  // Whether worker 0 looks at its `count` after each arrive() and can take over what the others do.
  bool hands_over = false;
};

class Team {
 public:
  using Body = void (*)(void* context, Worker& worker);

  explicit Team(Interrupted interrupted) : interrupted_(interrupted) {}
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  // The most threads that the next run may use: 1 while the machine is found to be busy.
  static int max_threads();
  // At least `bytes`, aligned to a cache line, valid until the next call on this thread.
  static void* scratch(std::size_t bytes);
  // Runs body(context, worker) for each job on up to so many threads and waits for all of them.
  void run(const Run& what, Body body, void* context);
  [[nodiscard]] bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }
  // The calling thread outside a run, for work too short for one.
  Worker alone() { return Worker(*this, 0, 0, 0, 0, 1); }

 private:
  friend class Worker;
  struct Line;

  // What the calling thread does in a run.
  void conduct();
  void work(int thread);
  // The first thread and the last exchange a few words.
  void measure(int thread);
  void poll();
  // So long was waited for threads that did not run.
  void lose(long long ns);
  template <class Ready>
  [[nodiscard]] bool wait(int thread, int other, Ready ready);
  template <class Ready>
  [[nodiscard]] bool wait_long(int thread, int other, Ready ready);

  Interrupted interrupted_;
  std::atomic<bool> cancelled_{false};
  std::atomic<bool> strained_{false};  // too long was waited for threads that did not run:
  std::atomic<long long> lost_{0};     // so long, in nanoseconds
  long long began_ = 0, conducted_ = 0;
  std::atomic<int> next_job_{0};
  long long next_poll_ = 0;  // nanoseconds; the calling thread's own

  Run what_{};
  Body body_ = nullptr;
  void* context_ = nullptr;
  Crew* crew_ = nullptr;
  CpuClock clock_{};  // of the calling thread
  int threads_ = 1, groups_ = 1;
  Line* points_ = nullptr;  // [threads] that a worker has passed
  Line* last_ = nullptr;    // [jobs] of a group, the point at which all but worker 0 leave
  Line* steps_ = nullptr;   // [jobs] finished
  Line* turn_ = nullptr;    // of measure()
  bool measures_ = false;
};

// What set_num_threads chose, or OpenMP offers; no more than OpenMP's limits allow.
int num_threads();
// 0 returns to what OpenMP offers.
void set_num_threads(int n);

}  // namespace pyrnn
