#include "latency.hpp"

#include <atomic>

#include "strain.hpp"
#include "wait.hpp"

namespace pyrnn::latency {
namespace {

// Measured by a call in every interval, it costs a thousandth of the time where that is long. What is remembered may keep
// calls on one thread, which measure nothing: once it is forgotten, one of them tries.
constexpr long long interval_ns = 10'000'000, memory_ns = 250'000'000;

std::atomic<long long> last_ns{0}, measured_at{0};

long long age(long long now) { return now - measured_at.load(std::memory_order_relaxed); }

}  // namespace

long long known_ns() {
  const long long ns = last_ns.load(std::memory_order_relaxed);
  return ns > 0 && strain::heeded() && age(now_ns()) < memory_ns ? ns : 0;
}

bool due(long long now) { return strain::heeded() && age(now) > interval_ns; }

void note(long long ns) {
  last_ns.store(ns, std::memory_order_relaxed);
  measured_at.store(now_ns(), std::memory_order_relaxed);
}

}  // namespace pyrnn::latency
