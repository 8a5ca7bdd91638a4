// Linear: y = x W^T + b on N rows; dx = dy W, dW = dy^T x, db = sum of dy. The same products as the
// input side of a cell.
#pragma once

#include "gradients.hpp"
#include "scan.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// Whole tiles; of large matrices so few rows that the slowest processor has them within a second, and Ctrl-C
// is heard.
template <class T>
Index rows_between_polls(const Linear<T>& call) {
  constexpr Index most = 252, most_work = Index(1) << 29;
  const Index fit = most_work / max(1, call.in_features * call.out_features);
  return max(1, min(most, fit) / tile_rows) * tile_rows;
}

// Calls f(first, last) for some panels, a few bundles at a time, and lets Ctrl-C be heard between them; of
// `work` multiply-adds a panel. False once the call is cancelled.
template <class F>
bool in_turns(Worker& worker, Range panels, double work, F f) {
  constexpr double work_at_once = 1 << 27;
  constexpr Index bundle = 4;
  const Index at_once = max(1, Index(work_at_once / (bundle * work + 1))) * bundle;
  for (Index p = panels.first, next; p < panels.last; p = next) {
    next = min(panels.last, (p / at_once + 1) * at_once);
    f(p, next);
    if (!worker.proceed(work * double(next - p))) return false;
  }
  return true;
}

// Of y; its gradients take twice as many.
template <class T>
double multiply_adds(const Linear<T>& call) {
  return double(call.rows) * double(call.in_features) * double(call.out_features);
}

// A value that is packed takes about as long as so many multiply-adds.
constexpr double work_of_packing = 8;

template <class T>
class LinearForward {
 public:
  static void run(const Linear<T>& call, Team& team) {
    LinearForward linear(call);
    Carver measure;
    linear.carve(measure);
    Carver carver(Team::scratch(measure.used()));
    linear.carve(carver);
    team.run(
        {linear.plan_.threads, multiply_adds(call)},
        [](void* context, Worker& worker) { static_cast<LinearForward*>(context)->work(worker); },
        &linear);
  }

 private:
  explicit LinearForward(const Linear<T>& call)
      : call_(call),
        plan_(
            Plan::of({call.in_features * call.out_features, max(Plan::many_rows, call.rows), 1, 1},
                     {Team::max_threads()})) {}

  void carve(Carver& carver) {
    const Index panels = panels_of<T>(call_.out_features);
    weight_ = {carver.take<T>(panels * panel_width<T> * call_.in_features),
               call_.in_features,
               call_.out_features,
               1,
               {}};
    a_ = carver.take<const T*>(call_.rows);
    c_ = carver.take<T*>(call_.rows);
  }

  void work(Worker& worker) const {
    const Range panels = part(weight_.count(), worker.index, worker.count);
    const double values = double(call_.in_features) * panel_width<T>;
    const auto pack = [&](Index first, Index last) {
      pack_transposed(weight_, call_.weight, first, last);
    };
    if (!in_turns(worker, panels, work_of_packing * values, pack)) return;
    const Range own = part(call_.rows, worker.index, worker.count);
    for (Index n = own.first; n < own.last; ++n) {
      a_[n] = call_.x + n * call_.in_features;
      c_[n] = call_.y + n * call_.out_features;
    }
    if (!worker.barrier()) return;
    // They stay in cache while the panels pass.
    const Index at_once = rows_between_polls(call_);
    for (Index n = own.first; n < own.last; n += at_once) {
      const Index count = min(at_once, own.last - n);
      const RowPointers<T> rows{a_ + n, 1, c_ + n};
      const auto product = [&](Index first, Index last) {
        if (call_.bias != nullptr) {
          multiply<Base::row>(count, rows, weight_, first, last, call_.bias);
        } else {
          multiply<Base::zero>(count, rows, weight_, first, last);
        }
      };
      if (!in_turns(worker, {0, weight_.count()}, double(count) * values, product)) return;
    }
  }

  const Linear<T>& call_;
  const Plan plan_;
  Panels<T> weight_{};
  const T** a_ = nullptr;
  T** c_ = nullptr;
};

template <class T>
class LinearBackward {
 public:
  static void run(const Linear<T>& call, Team& team) {
    LinearBackward linear(call);
    Carver measure;
    linear.carve(measure);
    Carver carver(Team::scratch(measure.used()));
    linear.carve(carver);
    team.run(
        {linear.plan_.threads, 2 * multiply_adds(call)},
        [](void* context, Worker& worker) { static_cast<LinearBackward*>(context)->work(worker); },
        &linear);
  }

 private:
  explicit LinearBackward(const Linear<T>& call)
      : call_(call),
        plan_(
            Plan::of({call.in_features * call.out_features, max(Plan::many_rows, call.rows), 2, 1},
                     {Team::max_threads()})),
        block_(clamp(call.rows, 1, rows_of_a_block)) {}

  void carve(Carver& carver) {
    const Index in = call_.in_features, out = call_.out_features;
    const Index columns = panels_of<T>(in) * panel_width<T>;
    weight_ = {carver.take<T>(columns * out), out, in, 1, {}};
    x_ = carver.take<T>(columns * block_);
    slices_ = carver.take<T>(plan_.threads * panel_width<T> * block_);
    dy_rows_ = carver.take<const T*>(plan_.threads * block_);
    x_rows_ = carver.take<const T*>(plan_.threads * block_);
    dx_rows_ = carver.take<T*>(plan_.threads * block_);
  }

  void work(Worker& worker) const {
    const Index in = call_.in_features, out = call_.out_features;
    const Range in_panels = part(panels_of<T>(in), worker.index, worker.count);
    const Range out_panels = part(panels_of<T>(out), worker.index, worker.count);
    const Index at_once = rows_between_polls(call_);
    const T** const dy = dy_rows_ + worker.index * block_;
    const T** const x = x_rows_ + worker.index * block_;
    T** const dx = dx_rows_ + worker.index * block_;
    T* const slice = slices_ + worker.index * panel_width<T> * block_;
    const double values = double(out) * panel_width<T>;
    const auto pack = [&](Index first, Index last) {
      pack_matrix(weight_, call_.weight, {first, last});
    };
    if (!in_turns(worker, in_panels, work_of_packing * values, pack)) return;
    // Without rows one empty block still writes the zeros.
    for (Index start = 0; start == 0 || start < call_.rows; start += block_) {
      const Index K = min(block_, call_.rows - start);
      for (Index k = 0; k < K; ++k) {
        dy[k] = call_.dy + (start + k) * out;
        x[k] = call_.x + (start + k) * in;
        dx[k] = call_.dx + (start + k) * in;
      }
      const Panels<T> operand{x_, K, in, 1, {}};
      pack_operand(operand, x, in_panels);
      if (!worker.barrier()) return;
      const Range own = part(K, worker.index, worker.count);
      for (Index k = own.first; k < own.last; k += at_once) {
        const Index count = min(at_once, own.last - k);
        const RowPointers<T> rows{dy + k, 1, dx + k};
        const auto product = [&](Index first, Index last) {
          multiply<Base::zero>(count, rows, weight_, first, last);
        };
        if (!in_turns(worker, {0, weight_.count()}, double(count) * values, product)) return;
      }
      for (Index p = out_panels.first; p < out_panels.last; ++p) {
        const Index m = p * panel_width<T>;
        const Slice<T> d =
            pack_slice(slice, dy, K, m, static_cast<int>(min(out - m, panel_width<T>)));
        accumulate_weight(d, operand, call_.dweight + m * in, start == 0);
        if (call_.dbias != nullptr) accumulate_bias(d, call_.dbias + m, start == 0);
        if (!worker.proceed(double(K) * double(panel_width<T> * in))) return;
      }
      if (!worker.barrier()) return;
    }
  }

  static constexpr Index rows_of_a_block = 256;

  const Linear<T>& call_;
  const Plan plan_;
  const Index block_;
  Panels<T> weight_{};           // W, depth out
  T* x_ = nullptr;               // packed x of a block
  T* slices_ = nullptr;          // [threads, K, panel_width]
  const T** dy_rows_ = nullptr;  // [threads, K]
  const T** x_rows_ = nullptr;   // [threads, K]
  T** dx_rows_ = nullptr;        // [threads, K]
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
