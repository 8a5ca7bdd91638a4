// The helper threads of the process. A call claims some, works with those that come at once, and does
// without the others: it never waits for a thread that has not begun.
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

  // Claims up to `wanted` idle helpers, starting new ones up to `limit` in the process.
  Crew(int wanted, int limit, Task task, void* context);
  Crew(const Crew&) = delete;
  Crew& operator=(const Crew&) = delete;

  // Waits at most `patience` ns for the claimed helpers to come and lets go of the others.
  void gather(long long patience);
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

  const Task task_;
  void* const context_;
  std::vector<Seat>& seats_;       // the calling thread's, kept for its next crew
  const int cpu_ = current_cpu();  // of the calling thread
  bool any_asleep_ = false;
  std::atomic<bool> started_{false};
};

}  // namespace pyrnn
