// The helper threads of a call: those of the process, or those that another library lends. A call claims
// some, works with those that come at once, and does without the others: it never waits for a thread that
// has not begun.
#pragma once

#include <atomic>
#include <vector>

#include "wait.hpp"

namespace pyrnn {

class Helper;

// The helpers of one call. It stays where it is until each of them has finished.
class Crew {
 public:
  // What a helper runs: index is 1..size() - 1, the calling thread being worker 0.
  using Task = void (*)(void* context, int index);
  // Nanoseconds, where one of the helpers was asleep and where all were awake.
  struct Patience {
    long long asleep, awake;
  };

  // Claims up to `wanted` idle helpers of the process, starting new ones up to `limit`.
  Crew(int wanted, int limit, Task task, void* context);
  // Claims `wanted` places that threads from elsewhere are to take by serve().
  Crew(int wanted, Task task, void* context);
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  // The calling thread, none of the process's helpers, takes a place and does what a helper does; where
  // all are taken or given up, it returns at once.
  void serve();
  // Waits so long for the claimed helpers to come and lets go of the others.
  void gather(const Patience& patience);
  // Workers, the calling thread included.
  [[nodiscard]] int size() const { return static_cast<int>(seats_.size()) + 1; }
  // Lets those that came begin.
  void start() { started_.store(true, std::memory_order_release); }
  // Whether helper `index` has returned from its task.
  [[nodiscard]] bool finished(int index) const;
  [[nodiscard]] const CpuClock& clock(int index) const;

 private:
  friend class Helper;
  // A claimed helper, and its state while it runs for this claim.
  struct Seat {
    Helper* helper;
    unsigned running;
  };

  Crew(Task task, void* context);
  // Unless another call has it.
  void claim(Helper& helper);

  const Task task_;
  void* const context_;
  std::vector<Seat>& seats_;  // the calling thread's, kept for its next crew
  Helper* places_ = nullptr;  // the calling thread's, for serve()
  int place_count_ = 0;
  std::atomic<int> taken_{0};      // of the places
  const int cpu_ = current_cpu();  // of the calling thread
  bool any_asleep_ = false;
  std::atomic<bool> started_{false};
};

}  // namespace pyrnn
