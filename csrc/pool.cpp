#include "pool.hpp"

#include <algorithm>
#include <condition_variable>
#include <csignal>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>

namespace pyrnn {
namespace {

// About 100 us: calls that follow each other find their helpers awake, and a process that does something
// else has its processors back.
constexpr int spins_before_sleep = 5 * spins_before_yield;

// Beyond the processors of any machine in sight.
constexpr int most_helpers = 1023;

}  // namespace

// One state in the low bits of `word`, above it the number of the claim, so that "running" for one call
// is not "running" for the next.
class Helper {
 public:
  enum State : unsigned { awake, asleep, claimed, assigned, running, states = 8 };

  static unsigned state(unsigned word) { return word % states; }
  static unsigned with(unsigned word, State state) { return word - word % states + state; }

  // The loop of the thread, which ends with the process.
  [[noreturn]] void live();
  // Runs the task on the calling thread if there is one assigned, and tells whether there was.
  bool serve();
  // The state that the helper will have while it runs, or 0 if it is not to be had.
  unsigned claim(bool& was_asleep);
  void assign(Crew& by, unsigned running_word);
  // Takes the assignment back unless the helper has come.
  bool retract(unsigned running_word);

  alignas(line_pair) std::atomic<unsigned> word{awake};
  Crew* crew = nullptr;
  int index = 0;
  CpuClock clock;
  std::mutex mutex;
  std::condition_variable wake;
};

namespace {

struct Pool {
  std::mutex growth;
  std::atomic<int> count{0};
  Helper* helpers[most_helpers] = {};
};

// Never destroyed: its threads run until the process ends.
Pool& pool() {
  static Pool* const the_pool = new Pool;
  return *the_pool;
}

// Signals are for the program's own threads.
class SignalsBlocked {
 public:
#if defined(__unix__) || defined(__APPLE__)
  SignalsBlocked() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_{};
#endif
};

// False when there are `limit` helpers, or the system has no more threads.
bool grow(int limit) {
  Pool& p = pool();
  const std::lock_guard<std::mutex> guard(p.growth);
  const int count = p.count.load(std::memory_order_relaxed);
  if (count >= limit || count >= most_helpers) return false;
  auto* const helper = new Helper;
  try {
    const SignalsBlocked blocked;
    std::thread([helper] { helper->live(); }).detach();
  } catch (const std::system_error&) {
    delete helper;
    return false;
  }
  p.helpers[count] = helper;
  p.count.store(count + 1, std::memory_order_release);
  return true;
}

// Of the threads that take part in a call and are not the process's helpers.
class Places {
 public:
  Helper* at_least(int count) {
    if (count > count_) {
      helpers_ = std::make_unique<Helper[]>(static_cast<std::size_t>(count));
      count_ = count;
    }
    return helpers_.get();
  }

 private:
  std::unique_ptr<Helper[]> helpers_;
  int count_ = 0;
};

}  // namespace

bool Helper::serve() {
  unsigned now = word.load(std::memory_order_acquire);
  if (state(now) != assigned || !word.compare_exchange_strong(now, with(now, running)))
    return false;
  leave_cpu(crew->cpu_);
  for (int spin = 0; !crew->started_.load(std::memory_order_acquire); ++spin) {
    spin < spins_before_yield ? pause() : yield();
  }
  crew->task_(crew->context_, index);
  word.store(with(now, awake), std::memory_order_release);
  return true;
}

void Helper::live() {
  clock = CpuClock::of_this_thread();
  int spins = 0;
  for (;;) {
    if (serve()) {
      spins = 0;
      continue;
    }
    unsigned now = word.load(std::memory_order_acquire);
    if (state(now) == awake && ++spins > spins_before_sleep) {
      if (word.compare_exchange_strong(now, with(now, asleep))) {
        std::unique_lock<std::mutex> lock(mutex);
        wake.wait(lock, [this] { return state(word.load()) != asleep; });
      }
      spins = 0;
    } else {
      pause();
    }
  }
}

unsigned Helper::claim(bool& was_asleep) {
  unsigned now = word.load(std::memory_order_relaxed);
  was_asleep = state(now) == asleep;
  if (state(now) != awake && state(now) != asleep) return 0;
  const unsigned mine = with(now + states, claimed);
  return word.compare_exchange_strong(now, mine) ? with(mine, running) : 0;
}

void Helper::assign(Crew& by, unsigned running_word) {
  crew = &by;
  word.store(with(running_word, assigned), std::memory_order_release);
}

bool Helper::retract(unsigned running_word) {
  unsigned expected = with(running_word, assigned);
  return word.compare_exchange_strong(expected, with(expected, awake));
}

Crew::Crew(Task task, void* context)
    : task_(task), context_(context), seats_([]() -> std::vector<Seat>& {
        thread_local std::vector<Seat> seats;
        return seats;
      }()) {
  seats_.clear();
}

Crew::Crew(int wanted, int limit, Task task, void* context) : Crew(task, context) {
  Pool& p = pool();
  seats_.reserve(static_cast<std::size_t>(wanted));
  for (int i = 0; static_cast<int>(seats_.size()) < wanted; ++i) {
    if (i >= p.count.load(std::memory_order_acquire)) {
      if (!grow(limit)) break;
      any_asleep_ = true;
    }
    claim(*p.helpers[i]);
  }
}

Crew::Crew(int wanted, Task task, void* context) : Crew(task, context) {
  thread_local Places places;
  const int count = std::min(wanted, most_helpers);
  seats_.reserve(static_cast<std::size_t>(count));
  places_ = places.at_least(count);
  place_count_ = count;
  any_asleep_ = true;  // or so it may be
  for (int i = 0; i < count; ++i) claim(places_[i]);
}

void Crew::claim(Helper& helper) {
  bool was_asleep = false;
  const unsigned running = helper.claim(was_asleep);
  if (running == 0) return;
  helper.assign(*this, running);
  if (was_asleep) {
    any_asleep_ = true;
    // The helper holds it from its last look at its state until it sleeps.
    {
      const std::lock_guard<std::mutex> lock(helper.mutex);
    }
    helper.wake.notify_one();
  }
  seats_.push_back({&helper, running});
}

void Crew::serve() {
  const int place = taken_.fetch_add(1, std::memory_order_relaxed);
  if (place >= place_count_) return;
  places_[place].clock = CpuClock::of_this_thread();
  places_[place].serve();
}

void Crew::gather(const Patience& patience) {
  const auto came = [](const Seat& seat) {
    return seat.helper->word.load(std::memory_order_acquire) == seat.running;
  };
  const long long deadline = now_ns() + (any_asleep_ ? patience.asleep : patience.awake);
  for (const Seat& seat : seats_) {
    // Reading the clock takes as long as a pause.
    while (!came(seat) && now_ns() < deadline) pause();
  }
  std::size_t count = 0;
  for (const Seat& seat : seats_) {
    if (!came(seat) && seat.helper->retract(seat.running)) continue;
    seats_[count++] = seat;
    seat.helper->index = static_cast<int>(count);
  }
  seats_.resize(count);
}

bool Crew::finished(int index) const {
  const Seat& seat = seats_[static_cast<std::size_t>(index - 1)];
  return seat.helper->word.load(std::memory_order_acquire) != seat.running;
}

const CpuClock& Crew::clock(int index) const {
  return seats_[static_cast<std::size_t>(index - 1)].helper->clock;
}

}  // namespace pyrnn
