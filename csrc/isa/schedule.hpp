// How the calls of one region run: one after the other, or side by side, each on threads of its own. What a
// call computes does not depend on it.
#pragma once

#include <new>

#include "../latency.hpp"
#include "scan.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Scan, class Call>
void run_jobs(const Call* calls, int count, Place place, Team& team) {
  // The team shares its threads out evenly, so every scan plans for as many: of layers that take inputs of
  // unlike sizes one may be worth fewer than the others.
  for (int i = 0; i < count; ++i) place.max_threads = Scan(calls[i], place).threads();
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

// Steps of a chunk of a wavefront. A call starts one chunk later than the one it follows; of 8 steps the
// product with W_ih has rows enough for a tile even with one sequence.
constexpr Index chunk_steps = 8;

// Side by side a call has all of W_hh in the caches of its own threads, which meet half as often or, one
// to a call, never. Apart, all threads share each call.
template <class Scan, class Call>
bool together(const Call& call, bool chained) {
  // Beyond it the halves of W_hh that two threads keep are worth more than the meetings that one thread saves.
  constexpr Index cache_bytes = second_level_bytes;
  const Shape& shape = call.in.shape;
  const Index bytes = Scan::G * shape.H * call.in.P * Index(sizeof(*call.in.h0));
  if (!chained) return bytes <= cache_bytes;
  // The late start must be little beside the gain: that of few units, which are not worth a meeting each
  // step, or of few rows, which fill no tile when they are shared. Backward passes on the gradient of x
  // only once in rows_of_a_block rows.
  if (Scan::walks_back) return shape.B >= 8 && shape.B < 32 && bytes <= cache_bytes / 8;
  return shape.B <= 8 && shape.T >= 12 * chunk_steps &&
         bytes <= (shape.B < 4 ? cache_bytes / 4 : cache_bytes / 8);
}

// Two threads need less time than one from 20,000 multiply-adds a step on where a word takes 27 ns to come over,
// from 75,000 where it takes 195, from 150,000 where it takes 230.
inline double work_of_a_meeting() {
  constexpr double work_of_a_ns = 250;
  const double measured = double(latency::known_ns()) * work_of_a_ns;
  return measured > Place::usual_meeting ? measured : Place::usual_meeting;
}

// `chained`: each call reads what the one before it writes, step by step.
template <class Scan, class Call>
void run_calls(const Call* calls, int count, bool chained, Team& team) {
  const double meeting = work_of_a_meeting();
  int at_once = 1;
  for (int i = 0; i < count && !team.cancelled(); i += at_once) {
    const int max_threads = Team::max_threads();
    at_once = int(min(count - i, max_threads));
    if (at_once > 1 && !together<Scan>(calls[i], chained)) at_once = 1;
    run_jobs<Scan>(calls + i, at_once,
                   {max_threads / at_once, chained && at_once > 1 ? chunk_steps : 0, meeting},
                   team);
  }
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
