// How the calls of one region run: one after the other, or side by side, each on threads of its own. What a
// call computes does not depend on it.
#pragma once

#include <cstdlib>
#include <new>

#include "scan.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Scan, class Call>
void run_jobs(const Call* calls, int count, const Place& place, Team& team) {
  Carver measure;
  measure.take<Scan>(count);
  for (int i = 0; i < count; ++i) Scan(calls[i], place).carve(measure);
  Carver carver(Team::scratch(measure.used()));
  Scan* const scans = carver.take<Scan>(count);
  Run run{};
  for (int i = 0; i < count; ++i) {
    Scan& scan = *new (scans + i) Scan(calls[i], place);
    scan.carve(carver);
    scan.begin();
    run.threads += scan.threads();
    run.work += scan.work_of_all();
  }
  run.threads = int(min(run.threads - 1, place.max_threads * count));
  run.jobs = count;
  run.hands_over = true;
  const auto body = [](void* context, Worker& worker) {
    static_cast<Scan*>(context)[worker.job].work(worker);
  };
  team.run(run, body, scans);
}

// Steps of a chunk of a wavefront: a few chunks of the usual sequence, each long beside a meeting.
constexpr Index chunk_steps = 32;

template <class Call>
bool together(const Call* calls, int count, bool chained, int max_threads) {
  (void)calls, (void)count, (void)chained;
  const char* const mode = getenv("PYRNN_SCHED");
  return max_threads > 1 && (mode == nullptr || *mode == '1');
}

// `chained`: each call reads what the one before it writes, step by step.
template <class Scan, class Call>
void run_calls(const Call* calls, int count, bool chained, Team& team) {
  const int max_threads = Team::max_threads();
  if (count > 1 && together(calls, count, chained, max_threads)) {
    const int threads = int(max(1, max_threads / count));
    return run_jobs<Scan>(calls, count, {threads, chained ? chunk_steps : 0}, team);
  }
  for (int i = 0; i < count && !team.cancelled(); ++i) {
    run_jobs<Scan>(calls + i, 1, {max_threads, 0}, team);
  }
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
