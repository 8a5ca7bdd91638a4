#include "strain.hpp"

#include <algorithm>
#include <atomic>

#include "wait.hpp"

namespace pyrnn::strain {
namespace {

// A stray event, of which an idle machine has some ten a second, costs nothing. From the second within
// `memory_ns` on: a time slice, then twice as long each time, up to 256 ms when every attempt fails, each of
// which may cost a slice or two: 2 % of the time.
constexpr long long memory_ns = 20'000'000, first_pause_ns = 4'000'000;
constexpr int most_strikes = 8;

long long pause_ns(int count) { return count < 2 ? 0 : first_pause_ns << (count - 2); }

std::atomic<bool> on{true};
std::atomic<int> strikes{0};
std::atomic<long long> alone_until{0};

}  // namespace

bool heeded() { return on.load(std::memory_order_relaxed); }

void heed(bool wanted) {
  on.store(wanted, std::memory_order_relaxed);
  strikes.store(0, std::memory_order_relaxed);
  alone_until.store(0, std::memory_order_relaxed);
}

bool lasts() {
  const long long until = alone_until.load(std::memory_order_relaxed);
  return until != 0 && heeded() && now_ns() < until;
}

void note(bool strained) {
  const int before = strikes.load(std::memory_order_relaxed);
  if (!heeded() || (before == 0 && !strained)) return;
  const long long now = now_ns();
  if (strained) {
    const int after = std::min(before + 1, most_strikes);
    strikes.store(after, std::memory_order_relaxed);
    alone_until.store(now + pause_ns(after), std::memory_order_relaxed);
  } else if (now >
             alone_until.load(std::memory_order_relaxed) + std::max(memory_ns, pause_ns(before))) {
    // It went well for as long as the pause was. One call that goes well says little: most do by chance.
    strikes.store(before / 2, std::memory_order_relaxed);
  }
}

}  // namespace pyrnn::strain
