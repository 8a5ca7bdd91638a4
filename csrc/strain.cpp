#include "strain.hpp"

#include <algorithm>
#include <atomic>

#include "wait.hpp"

namespace pyrnn::strain {
namespace {

// A time slice, after one stray event; up to 2 s when every attempt fails, each of which may cost some
// slices: below 1 % of the time.
constexpr long long first_pause_ns = 4'000'000;
constexpr int most_strikes = 10;

std::atomic<int> strikes{0};
std::atomic<long long> alone_until{0};

}  // namespace

bool lasts() {
  const long long until = alone_until.load(std::memory_order_relaxed);
  return until != 0 && now_ns() < until;
}

void note(bool strained) {
  const int before = strikes.load(std::memory_order_relaxed);
  if (strained) {
    const int now = std::min(before + 1, most_strikes);
    strikes.store(now, std::memory_order_relaxed);
    alone_until.store(now_ns() + (first_pause_ns << (now - 1)), std::memory_order_relaxed);
  } else if (before > 0) {
    strikes.store(before - 1, std::memory_order_relaxed);
    if (before == 1) alone_until.store(0, std::memory_order_relaxed);
  }
}

}  // namespace pyrnn::strain
