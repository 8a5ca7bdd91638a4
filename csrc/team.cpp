#include "team.hpp"

#include <algorithm>
#include <cstdlib>
#include <limits>
#include <new>
#include <thread>

#include "latency.hpp"
#include "lender.hpp"
#include "scratch.hpp"
#include "strain.hpp"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace pyrnn {
namespace {

// Threads of this process: more than a child forked from it has.
std::atomic<bool> forked{false};

#if defined(__unix__) || defined(__APPLE__)
[[maybe_unused]] const int fork_handler =
    pthread_atfork(nullptr, nullptr, [] { forked.store(true, std::memory_order_relaxed); });
#endif

std::atomic<int> chosen_threads{0};
// OpenMP's number when that was chosen: a lower one since then is a later choice.
std::atomic<int> offered_then{0};

const int processors = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));

#ifdef _OPENMP
int offered_threads() { return omp_get_max_threads(); }

// What OpenMP would allow here whatever was asked for.
int allowed_threads() {
  if (omp_get_active_level() >= omp_get_max_active_levels()) return 1;
  return omp_get_thread_limit();
}
#else
// The threads are the package's own: a compiler without OpenMP leaves out only those who change its number while
// the process runs. Of a list, the number of the outermost level.
int from_environment(const char* name, int otherwise) {
  const char* const text = std::getenv(name);
  const long number = text != nullptr ? std::strtol(text, nullptr, 10) : 0;
  return number >= 1 && number <= std::numeric_limits<int>::max() ? static_cast<int>(number)
                                                                  : otherwise;
}

// Those that this thread may run on.
int processors_allowed() {
#if defined(__linux__)
  cpu_set_t allowed;
  if (sched_getaffinity(0, sizeof(allowed), &allowed) == 0) return std::max(1, CPU_COUNT(&allowed));
#endif
  return processors;
}

// Read once, as OpenMP does: a process that changes its environment later may be about to read it elsewhere.
int allowed_threads() {
  static const int threads = from_environment("OMP_THREAD_LIMIT", std::numeric_limits<int>::max());
  return threads;
}

int offered_threads() {
  static const int threads = from_environment("OMP_NUM_THREADS", processors_allowed());
  return threads;
}
#endif

// A user presses Ctrl-C and expects an answer within a second.
constexpr long long poll_interval_ns = 50'000'000;

// Some tens of microseconds: reading the clock then costs nothing.
constexpr double work_between_polls = 2e6;

// Waiting for longer than this is worth asking the system why.
constexpr long long long_wait_ns = 50'000;

// Moments in which a thread is put aside come on an idle machine too. What tells a busy one is that more
// is lost by them than a quarter of the time, and no less than this.
constexpr long long least_lost_ns = 1'000'000;

// A third of a usual time slice: a thread that was put aside is often back by then.
constexpr long long before_yield_ns = 1'000'000;

// How long a call of so many multiply-adds waits for its helpers, of which a core does up to about 50 a
// nanosecond. A thread that sleeps may take half as long to come as the call would take without it, and is
// usually there within 200 us. One that is awake comes within a microsecond. Whoever has not come by then has
// been put aside, often for a millisecond or more: an eighth of the call is little beside doing without it.
constexpr Crew::Patience patience(double work) {
  constexpr double multiply_adds_per_ns = 50;
  constexpr long long asleep = 200'000, awake = 20'000, longest = 10'000'000;
  if (work == 0) return {asleep, awake};
  const auto alone = static_cast<long long>(work / multiply_adds_per_ns);
  const auto at_least = [&](long long usual) {
    return std::max(std::clamp(alone / 2, 5'000LL, usual), std::min(alone / 8, longest));
  };
  return {at_least(asleep), at_least(awake)};
}

constexpr unsigned never = 0;

}  // namespace

// A counter on lines of its own: one thread writes it and others read it, one transfer between cores where
// a shared counter would take three.
struct alignas(line_pair) Team::Line {
  std::atomic<std::ptrdiff_t> value{0};
  std::atomic<int> thread{0};  // that works on the job

  [[nodiscard]] unsigned points() const {
    return static_cast<unsigned>(value.load(std::memory_order_acquire));
  }
};

// --- waiting -------------------------------------------------------------------------------------------

template <class Ready>
bool Team::wait(int thread, int other, Ready ready) {
  for (int spin = 0; spin < spins_before_yield; ++spin) {
    if (ready()) return true;
    if (cancelled()) return false;
    pause();
  }
  return wait_long(thread, other, ready);
}

template <class Ready>
bool Team::wait_long(int thread, int other, Ready ready) {
  const CpuClock& clock = other == 0 ? clock_ : crew_->clock(other);
  const bool asks = clock.known() && strain::heeded();
  const long long start = now_ns();
  long long since = start, ran = clock.ns();
  // Time in which the one waited for ran less than half is lost.
  const auto look = [&](long long now) {
    const long long ran_now = clock.ns();
    if (ran_now - ran < (now - since) / 2) lose(now - since);
    since = now;
    ran = ran_now;
  };
  while (!ready()) {
    if (cancelled()) return false;
    if (thread == 0) poll();
    const long long now = now_ns();
    // Another program's thread would keep a processor that is yielded to it for a time slice, within which
    // the one waited for may come and go.
    if (asks && now - start < before_yield_ns) {
      for (int i = 0; i < 16; ++i) pause();
    } else {
      yield();
    }
    if (asks && now - since > long_wait_ns && !ready()) look(now);
  }
  const long long now = now_ns();
  if (asks && now - since > long_wait_ns) look(now);
  return true;
}

void Team::lose(long long ns) {
  const long long lost = lost_.fetch_add(ns, std::memory_order_relaxed) + ns;
  if (lost > std::max(least_lost_ns, (now_ns() - began_) / 4)) {
    strained_.store(true, std::memory_order_relaxed);
  }
}

void Team::poll() {
  if (interrupted_ == nullptr) return;
  const long long now = now_ns();
  if (now < next_poll_) return;
  next_poll_ = now + poll_interval_ns;
  if (interrupted_()) cancelled_.store(true, std::memory_order_relaxed);
}

// --- a worker ------------------------------------------------------------------------------------------

Worker::Worker(Team& team, int thread, int group, int job, int index, int count)
    : job(job), index(index), count(count), team_(team), first_(thread - index), group_(group) {}

bool Worker::arrive() {
  if (count == 1) return !team_.cancelled();
  ++points_;
  std::atomic<std::ptrdiff_t>& last = team_.last_[group_].value;
  if (index == 0 && team_.what_.hands_over && last.load(std::memory_order_relaxed) == never &&
      team_.strained_.load(std::memory_order_relaxed)) {
    // Who arrives at the next point has awaited this one, and seen it.
    last.store(points_ + 1, std::memory_order_relaxed);
  }
  team_.points_[first_ + index].value.store(points_, std::memory_order_release);
  if (static_cast<unsigned>(last.load(std::memory_order_relaxed)) == points_ && !part())
    return false;
  return !team_.cancelled();
}

// The others leave and worker 0 goes on alone.
bool Worker::part() {
  if (index > 0 || !await_others()) return false;
  count = 1;
  return true;
}

bool Worker::await(int other) {
  const Team::Line& line = team_.points_[first_ + other];
  // The other may be one point ahead, never more.
  return team_.wait(first_ + index, first_ + other, [&] { return line.points() - points_ <= 1; });
}

bool Worker::await_others() {
  for (int i = 1; i < count; ++i) {
    if (!await((index + i) % count)) return false;
  }
  return true;
}

bool Worker::barrier() {
  // Two points ahead of a worker that has yet to see the first, this one would be waited for for ever.
  return await_others() && arrive() && await_others() && !team_.cancelled();
}

bool Worker::proceed(double work) {
  work_since_poll_ += work;
  if (first_ + index == 0 && work_since_poll_ > work_between_polls) {
    work_since_poll_ = 0;
    team_.poll();
  }
  return !team_.cancelled();
}

bool Worker::publish(std::ptrdiff_t steps) {
  if (!barrier()) return false;
  if (index == 0) team_.steps_[job].value.store(steps, std::memory_order_release);
  return true;
}

bool Worker::await_steps(int earlier, std::ptrdiff_t steps) {
  const Team::Line& line = team_.steps_[earlier];
  return team_.wait(first_ + index, line.thread.load(std::memory_order_relaxed),
                    [&] { return line.value.load(std::memory_order_acquire) >= steps; });
}

// --- a run ---------------------------------------------------------------------------------------------

int num_threads() {
  if (forked.load(std::memory_order_relaxed)) return 1;
  const int chosen = chosen_threads.load(std::memory_order_relaxed);
  int threads = offered_threads();
  if (chosen > 0) {
    const bool lowered = threads < offered_then.load(std::memory_order_relaxed);
    threads = lowered ? std::min(chosen, threads) : chosen;
  }
  return std::min(threads, allowed_threads());
}

void set_num_threads(int n) {
  offered_then.store(offered_threads(), std::memory_order_relaxed);
  chosen_threads.store(n, std::memory_order_relaxed);
}

int Team::max_threads() {
  const int threads = num_threads();
  return threads > 1 && strain::lasts() ? 1 : threads;
}

void* Team::scratch(std::size_t bytes) {
  thread_local Scratch held;
  return held.at_least(bytes);
}

void Team::measure(int thread) {
  constexpr int rounds = 3, exchanges = 8;
  constexpr std::ptrdiff_t given_up = -1;
  if (thread != 0 && thread != threads_ - 1) return;
  std::atomic<std::ptrdiff_t>& turn = turn_->value;
  const auto change = [&turn](std::ptrdiff_t from, std::ptrdiff_t to) {
    return turn.compare_exchange_strong(from, to);
  };
  // No pauses, which differ between processors as much as what is measured. Nor is anything worth a long wait, but
  // for the one that comes later.
  const auto came = [&](std::ptrdiff_t mine) {
    const int spins = mine <= 2 ? 20 * spins_before_yield : spins_before_yield;
    for (int spin = 0; spin < spins; ++spin) {
      const std::ptrdiff_t now = turn.load(std::memory_order_relaxed);
      if (now == mine || now == given_up) return now == mine;
    }
    return !change(mine - 1, given_up) && turn.load() == mine;
  };
  long long shortest = std::numeric_limits<long long>::max();
  std::ptrdiff_t now = 0;
  for (int round = 0; round < rounds; ++round) {
    const long long start = now_ns();
    for (int i = 0; i < exchanges; ++i, now += 2) {
      if (thread != 0 && !came(now + 1)) return;
      if (!change(now + (thread == 0 ? 0 : 1), now + (thread == 0 ? 1 : 2))) return;
      if (thread == 0 && !came(now + 2)) return;
    }
    shortest = std::min(shortest, now_ns() - start);
  }
  if (thread == 0) latency::note(shortest / (2 * exchanges));
}

void Team::work(int thread) {
  if (threads_ <= what_.jobs) {
    for (int job; (job = next_job_.fetch_add(1, std::memory_order_relaxed)) < what_.jobs;) {
      steps_[job].thread.store(thread, std::memory_order_relaxed);
      Worker worker(*this, thread, thread, job, 0, 1);
      body_(context_, worker);
    }
    return;
  }
  const int group = thread * groups_ / threads_;
  const auto first = [this](int g) { return (g * threads_ + groups_ - 1) / groups_; };
  steps_[group].thread.store(first(group), std::memory_order_relaxed);
  Worker worker(*this, thread, group, group, thread - first(group),
                first(group + 1) - first(group));
  body_(context_, worker);
}

void Team::run(const Run& what, Body body, void* context) {
  what_ = what;
  body_ = body;
  context_ = context;
  next_poll_ = now_ns() + poll_interval_ns;
  cancelled_.store(false, std::memory_order_relaxed);
  next_job_.store(0, std::memory_order_relaxed);
  threads_ = groups_ = 1;
  measures_ = false;

  thread_local Scratch held;
  const int most = std::max(1, what.threads), lines = most + 2 * what.jobs + 1;
  auto* const line =
      static_cast<Line*>(held.at_least(static_cast<std::size_t>(lines) * sizeof(Line)));
  for (int i = 0; i < lines; ++i) new (line + i) Line;
  points_ = line;
  last_ = points_ + most;
  steps_ = last_ + what.jobs;
  turn_ = steps_ + what.jobs;
  if (most == 1) return work(0);

  clock_ = CpuClock::of_this_thread();
  strained_.store(false, std::memory_order_relaxed);
  lost_.store(0, std::memory_order_relaxed);
  began_ = now_ns();
  const Crew::Task task = [](void* context, int thread) {
    Team& team = *static_cast<Team*>(context);
    team.work(thread);
    if (team.measures_) team.measure(thread);
  };
  const Lender* const lender = Lender::in_use();
  if (lender != nullptr && lender->lends(most, what.work)) {
    Crew crew(most - 1, task, this);
    crew_ = &crew;
    lender->lend(crew, [](void* team) { static_cast<Team*>(team)->conduct(); }, this);
    // It waits for all of its threads, whether they took part or not.
    lose(now_ns() - began_ - conducted_);
  } else {
    Crew crew(most - 1, std::max(most, processors) - 1, task, this);
    crew_ = &crew;
    conduct();
  }
  strain::note(strained_.load(std::memory_order_relaxed));
}

void Team::conduct() {
  const long long start = now_ns();
  crew_->gather(patience(what_.work));
  threads_ = crew_->size();
  groups_ = std::min(threads_, what_.jobs);
  measures_ = threads_ > 1 && latency::due(start);
  crew_->start();
  work(0);
  // Where both are running and would wait for each other in any case.
  if (measures_) measure(0);
  for (int i = 1; i < threads_; ++i) {
    const auto finished = [&] { return crew_->finished(i); };
    // Cancelled, they return soon; their Team must not be gone before.
    while (!wait(0, i, finished) && !finished()) yield();
  }
  conducted_ = now_ns() - start;
}

}  // namespace pyrnn
