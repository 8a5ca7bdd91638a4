// What forward and backward share: how a call is cut among threads, in which order time runs, and where a
// row's values of one step lie.
#pragma once

#include "cell.hpp"
#include "pack.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// Cuts one buffer into arrays, each on a cache line of its own. Without a buffer it only measures.
class Carver {
 public:
  explicit Carver(void* buffer = nullptr) : buffer_(static_cast<char*>(buffer)) {}
  template <class T>
  T* take(Index n) {
    T* const start = buffer_ == nullptr ? nullptr : reinterpret_cast<T*>(buffer_ + used_);
    const std::size_t bytes = static_cast<std::size_t>(n) * sizeof(T);
    used_ += (bytes + line_bytes - 1) / line_bytes * line_bytes;
    return start;
  }
  [[nodiscard]] std::size_t used() const { return used_; }

 private:
  char* buffer_;
  std::size_t used_ = 0;
};

// The rows of a batch, longest first: those alive at step t are the first `n` of the order.
struct Rows {
  Index batch_size, seq_len;
  const std::int64_t* lengths;  // [B] or null: all T
  const Index* order;           // [B], null without lengths

  template <class T>
  static Rows of(const Inputs<T>& in) {
    return {in.shape.B, in.shape.T, in.lengths, in.order};
  }

  PYRNN_INLINE Index row(Index i) const { return order == nullptr ? i : order[i]; }
  PYRNN_INLINE Index length(Index row) const {
    return lengths == nullptr ? seq_len : static_cast<Index>(lengths[row]);
  }
  // Alive rows at step t, given those at a neighbouring step.
  PYRNN_INLINE Index alive(Index t, Index n) const {
    if (order == nullptr) return batch_size;
    while (n > 0 && length(order[n - 1]) <= t) --n;
    while (n < batch_size && length(order[n]) > t) ++n;
    return n;
  }
  // Part `index` of `count` of the order, by steps to compute.
  Range share(int index, int count) const {
    if (order == nullptr) return part(batch_size, index, count);
    Index total = 0;
    for (Index i = 0; i < batch_size; ++i) total += length(i);
    Range range{0, 0};
    Index before = 0;
    for (Index i = 0; i < batch_size; ++i) {
      if (before < total * index / count) range.first = i + 1;
      if (before < total * (index + 1) / count) range.last = i + 1;
      before += length(order[i]);
    }
    if (index + 1 == count) range.last = batch_size;
    if (index == 0) range.first = 0;
    return range;
  }
};

// Steps of a sequence in blocks; block 0 is computed first.
struct Time {
  Index seq_len, block;
  bool reverse;

  PYRNN_INLINE Index blocks() const { return ceil_div(seq_len, block); }
  // Steps [first, last) of block i, by their place in x. Blocks lie on the same grid for both directions of
  // a pass, so that backward meets the blocks of forward in the opposite order.
  PYRNN_INLINE Range steps(Index i) const {
    const Index from = i * block, to = min(seq_len, from + block);
    return reverse ? Range{seq_len - to, seq_len - from} : Range{from, to};
  }
  // The i-th computed step of a range.
  PYRNN_INLINE Index at(Range steps, Index i) const {
    return reverse ? steps.last - 1 - i : steps.first + i;
  }
  // The step computed before t; negative or >= length where a row starts.
  PYRNN_INLINE Index before(Index t) const { return reverse ? t + 1 : t - 1; }
};

// What a step of a call costs.
struct StepCost {
  Index weights;  // multiply-adds of a row
  Index rows, steps, units;
  int meetings = 1;    // of the threads, by units
  Index bytes = 0;     // of the weights; 0 for few rows in reduced precision
  bool joint = false;  // whether W_ih x_t may be a part of it
  bool whole = false;  // and all sums stay in registers from the one product to the other
};

// What a scan is told about its place among the calls that run side by side.
struct Place {
  // What a meeting of the threads takes as long as, where that has not been measured: multiply-adds on weights
  // out of L2.
  static constexpr double usual_meeting = 10e3;

  int max_threads;  // that it may use
  // Steps after which it says how far it is, and before which it waits for the call whose output it
  // reads; 0 where no such call runs beside it.
  Index chunk = 0;
  double meeting = usual_meeting;
};

// How a call is cut: by rows every thread runs alone; by units the threads meet at every step, but each
// keeps its slice of W_hh in its own cache.
struct Plan {
  // Fewer rows of a thread read W_ih too often for what they save by not storing its product.
  static constexpr Index least_rows = 4;
  // With so many the arithmetic takes longer than reading all weights at every step.
  static constexpr Index many_rows = 16;
  // More weights than this, read by each thread, are not at hand in the third-level cache at every step.
  static constexpr Index most_bytes = 8 * 1024 * 1024;

  int threads;
  bool by_rows;

  static Plan of(const StepCost& step, const Place& place) {
    const int max_threads = place.max_threads;
    // One step needs no barrier, and by units each weight is packed by one thread.
    const bool one_step = step.steps == 1;
    // Below about 100,000 multiply-adds in all, starting threads costs more than they save.
    const double work = double(step.weights) * double(step.rows);
    if (max_threads <= 1 || work * double(step.steps) < 1e5) return {1, !one_step};
    if (!one_step && by_rows_of(step, work, max_threads)) {
      return {int(min(max_threads, ceil_div(step.rows, 2))), true};
    }
    const Index useful = max(1, Index(work / (place.meeting * step.meetings)));
    return {int(min(min(max_threads, useful), max(1, step.units))), false};
  }

 private:
  // Nor is the third level fast enough anywhere for wide vectors, where each thread has a tile or two of rows for all
  // of its lines.
  static constexpr Index most_for_tiles =
      most_bundled > 1 ? second_level_bytes * 5 / 2 : most_bytes;

  static bool by_rows_of(const StepCost& step, double work, int threads) {
    if (step.rows >= least_rows && work < 16 * 1024 * 16) return true;  // short beside a meeting
    const bool tile_each =
        step.bytes > 0 && step.bytes <= most_for_tiles && step.rows >= least_rows * threads;
    return (step.rows >= many_rows || tile_each) && !shares(step, threads);
  }

  // Whether threads with rows enough are better off with meetings and a part of the weights each: where all of
  // those would come out of the third-level cache for every thread, or where the few rows of each are cut into
  // more tiles than all rows are.
  static bool shares(const StepCost& step, int threads) {
    const Index most_units = ceil_div(step.units, threads) * threads;
    if (!step.joint || step.meetings > 1 || most_units * 8 > step.units * 9) return false;
    if (step.bytes >= most_bytes && step.rows >= many_rows) return true;
    // A tile of four has too few sums, and all weights would pass under it in every thread.
    if (few_sums && step.whole && step.rows < many_rows && step.rows / threads == 4) return true;
    const Index own = ceil_div(step.rows, threads);
    return step.bytes >= most_bytes / 8 && own < 10 && tiles(step.rows) < threads * tiles(own);
  }

  static Index tiles(Index rows) { return ceil_div(rows, tile_rows); }
};

// The units in a range of panels.
template <class T>
PYRNN_INLINE Range units_of(Range panels, Index hidden) {
  return {min(hidden, panels.first * panel_width<T>), min(hidden, panels.last * panel_width<T>)};
}

// A worker's part of every step.
struct Share {
  Range rows;               // of the order
  Range panels;             // of one block of H columns
  Range units;              // the same in columns
  Range h_panels, h_units;  // the same of h
  int workers;

  template <class T>
  static Share of(const Plan& plan, const Rows& rows, Index H, Index P, const Worker& worker) {
    if (plan.by_rows) {
      return {rows.share(worker.index, worker.count),
              {0, panels_of<T>(H)},
              {0, H},
              {0, panels_of<T>(P)},
              {0, P},
              worker.count};
    }
    return by_units<T>(rows.batch_size, H, P, worker);
  }

  template <class T>
  static Share by_units(Index batch_size, Index H, Index P, const Worker& worker) {
    const Range own = part(panels_of<T>(H), worker.index, worker.count);
    const Range of_h = part(panels_of<T>(P), worker.index, worker.count);
    return {{0, batch_size}, own, units_of<T>(own, H), of_h, units_of<T>(of_h, P), worker.count};
  }

  // To be called after each meeting: worker 0 may be left alone with all there is to do.
  template <class T>
  PYRNN_INLINE void follow(const Plan& plan, const Rows& all, Index H, Index P,
                           const Worker& worker) {
    if (workers != worker.count) *this = of<T>(plan, all, H, P, worker);
  }

  // By units, workers meet: each then sees what all wrote before. False once the call is cancelled.
  template <class T>
  bool meet(const Plan& plan, const Rows& all, Index H, Index P, Worker& worker) {
    if (plan.by_rows) return true;
    if (!worker.barrier()) return false;
    follow<T>(plan, all, H, P, worker);
    return true;
  }
};

// Panels [first, last) in an array of `groups` alternating blocks.
PYRNN_INLINE Range grouped(Range panels, int groups) {
  return {panels.first * groups, panels.last * groups};
}

// Where the values of a (step, row) lie.
template <class T>
struct Places {
  const Inputs<T>& in;
  Time time;
  Rows rows;

  PYRNN_INLINE Index index(Index t, Index row) const { return t * in.shape.B + row; }
  PYRNN_INLINE bool starts(Index t, Index row) const {
    const Index before = time.before(t);
    return before < 0 || before >= rows.length(row);
  }
  // The last step computed of a row that has any.
  PYRNN_INLINE Index last_step(Index row) const { return time.reverse ? 0 : rows.length(row) - 1; }
  // A state of the step before: from `states` [T, B, width], or the initial one [B, width].
  PYRNN_INLINE const T* before(const T* states, const T* initial, Index width, Index t,
                               Index row) const {
    return starts(t, row) ? initial + row * width : states + index(time.before(t), row) * width;
  }
};

// Values that fit a thread's share of L2 beside the weights that pass through it.
constexpr Index block_bytes = 256 * 1024;

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
