// Backpropagation through time, for every cell: step by step the pointwise part and W_hh^T times the
// gradients of the gates; after each block of steps dx, dW and db as large products.
#pragma once

#include "gradients.hpp"
#include "schedule.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Cell, class T>
class BackwardScan {
 public:
  static void run(const Backward<T>* calls, int count, bool chained, Team& team) {
    run_calls<BackwardScan>(calls, count, chained, team);
  }

 private:
  static constexpr int G = Cell::gates, C = Cell::columns, S = segment_count<Cell>;

  // A (step, row) of a block: what the large products read of it.
  struct Lists {
    const T** dgates;      // [K] rows of the window
    const T** x;           // [K] rows of x
    T** dx;                // [K]
    std::int64_t* tokens;  // [K]
    Index* step;           // [K]
    Index* row;            // [K]
  };

  template <class Scan, class Call>
  friend void run_jobs(const Call* calls, int count, const Place& place, Team& team);
  template <class Scan, class Call>
  friend bool together(const Call& call, bool chained);
  static constexpr bool walks_back = true;

  BackwardScan(const Backward<T>& call, const Place& place)
      : call_(call),
        T_(call.in.shape.B == 0 ? 0 : call.in.shape.T),  // no rows, no steps to walk
        B_(call.in.shape.B),
        I_(call.in.shape.I),
        H_(call.in.shape.H),
        plan_(Plan::of(G * H_ * (I_ + H_), B_, T_, panels_of<T>(H_), place.max_threads)),
        chunk_(place.chunk),
        cost_of_step_(double(G * H_) * double(I_ + H_) * double(B_)),
        block_(clamp(rows_of_a_block / max(1, B_), 1, max(1, T_))) {}

  int threads() const { return plan_.threads; }
  double work_of_all() const { return 2 * cost_of_step_ * double(T_); }
  void begin() const {}

  void carve(Carver& carver) {
    for (int s = 0; s < S; ++s) {
      const Index depth = Cell::segments[s].count * H_;
      hidden_[s] = {carver.take<T>(panels_of<T>(H_) * panel_width<T> * depth), depth, H_, 1, {}};
    }
    const Index K = block_ * B_;
    if (call_.dx != nullptr) {
      input_ = {carver.take<T>(panels_of<T>(I_) * panel_width<T> * G * H_), G * H_, I_, 1, {}};
      x_ = carver.take<T>(panels_of<T>(I_) * panel_width<T> * K);
    }
    for (int p = 0; p < Cell::phases; ++p) {
      operand_[p] = carver.take<T>(panels_of<T>(H_) * panel_width<T> * K);
    }
    window_ = carver.take<T>(K * C * H_);
    d_reset_h_ = Cell::phases > 1 ? carver.take<T>(B_ * H_) : nullptr;
    slices_ = carver.take<T>(plan_.threads * panel_width<T> * K);
    const Index n = plan_.threads * K;
    lists_ = {carver.take<const T*>(n),     carver.take<const T*>(n), carver.take<T*>(n),
              carver.take<std::int64_t>(n), carver.take<Index>(n),    carver.take<Index>(n)};
    const Index m = plan_.threads * B_;
    pointer_a_ = carver.take<const T*>(m);
    pointer_c_ = carver.take<T*>(m);
  }

  void work(Worker& worker) {
    const Rows rows = Rows::of(call_.in);
    const Time time{T_, block_, call_.in.reverse};
    const Places<T> places{call_.in, time, rows};
    Share share = Share::of<T>(plan_, rows, H_, worker);
    const Index own = worker.index * block_ * B_;
    const Lists lists{lists_.dgates + own, lists_.x + own,    lists_.dx + own,
                      lists_.tokens + own, lists_.step + own, lists_.row + own};

    pack(worker, share);
    start(worker, share, rows);
    if (plan_.by_rows && !worker.barrier()) return;
    Index alive = 0;
    for (Index i = time.blocks() - 1; i >= 0; --i) {
      const Range steps = time.steps(i);
      share.follow<T>(plan_, rows, H_, worker);
      const Index done = T_ - steps.first;
      if (chunk_ > 0 && worker.job > 0 && !worker.await_steps(worker.job - 1, done)) return;
      for (Index s = steps.size() - 1; s >= 0; --s) {
        const Index t = time.at(steps, s);
        alive = rows.alive(t, alive);
        const Range some{share.rows.first, clamp(alive, share.rows.first, share.rows.last)};
        if (!step(worker, share, places, some, t, steps.first)) return;
      }
      const Index K = list(places, steps, lists, alive);
      if (!worker.barrier()) return;  // the window is complete
      input_gradient(worker, lists, K);
      if (chunk_ > 0 && !worker.publish(done)) return;
      pack_operands(worker, places, lists, K);
      if (!worker.barrier()) return;  // the operands are complete
      weight_gradients(worker, lists, K, i + 1 == time.blocks());
      if (!worker.barrier()) return;  // both may be overwritten
    }
  }

  void pack(const Worker& worker, const Share& share) const {
    const Range own =
        plan_.by_rows ? part(panels_of<T>(H_), worker.index, worker.count) : share.panels;
    for (int s = 0; s < S; ++s) {
      pack_matrix(hidden_[s], call_.in.params.w_hh + Cell::segments[s].gate * H_ * H_, own);
    }
    if (call_.dx != nullptr) {
      pack_matrix(input_, call_.in.params.w_ih, part(panels_of<T>(I_), worker.index, worker.count));
    }
  }

  // dh0 and dc0 hold the gradients that travel back through time.
  void start(const Worker& worker, const Share& share, const Rows& rows) const {
    for (Index i = share.rows.first; i < share.rows.last; ++i) {
      const Index at = rows.row(i) * H_;
      begin(call_.dh_n, call_.dh0, at, share.units);
      if constexpr (Cell::has_c) begin(call_.dc_n, call_.dc0, at, share.units);
    }
    const Range some = part(B_, worker.index, worker.count);
    for (Index row = some.first; call_.dx != nullptr && row < some.last; ++row) {
      for (Index t = rows.length(row); t < T_; ++t) {
        fill(call_.dx + (t * B_ + row) * I_, {0, I_}, T(0));
      }
    }
    // Scattering adds to what is there; without a step nothing else writes.
    const bool no_steps = T_ == 0;
    const Range units = part(H_, worker.index, worker.count);
    for (int g = 0; g < G; ++g) {
      const Range own{g * H_ + units.first, g * H_ + units.last};
      if (no_steps || call_.in.tokens != nullptr) {
        fill(call_.dw_ih, {own.first * I_, own.last * I_}, T(0));
      }
      if (!no_steps) continue;
      fill(call_.dw_hh, {own.first * H_, own.last * H_}, T(0));
      if (call_.db_ih != nullptr) fill(call_.db_ih, own, T(0));
      if (call_.db_hh != nullptr) fill(call_.db_hh, own, T(0));
    }
  }

  static void begin(const T* from, T* to, Index at, Range units) {
    if (from == nullptr) {
      fill(to + at, units, T(0));
    } else {
      copy(from + at, to + at, units);
    }
  }

  PYRNN_INLINE T* dgates_at(Index t, Index row, Index block_first) const {
    return window_ + ((t - block_first) * B_ + row) * C * H_;
  }

  bool step(Worker& worker, Share& share, const Places<T>& places, Range rows, Index t,
            Index block_first) const {
    const T** const a = pointer_a_ + (plan_.by_rows ? share.rows.first : B_ * worker.index);
    T** const c = pointer_c_ + (plan_.by_rows ? share.rows.first : B_ * worker.index);
    return for_phases<Cell, true>([&](auto phase_constant) {
      constexpr int phase = decltype(phase_constant)::value;
      for (Index i = rows.first; i < rows.last; ++i) {
        const GradRow<T> row = grad_row(places, t, places.rows.row(i), block_first);
        for_lanes<T>(share.units.first, share.units.last,
                     [&](const auto& at) { Cell::template pointwise_backward<phase, T>(at, row); });
      }
      if (!worker.proceed(cost_of_step_)) return false;
      // The product reads what every worker wrote.
      if (!plan_.by_rows && !worker.barrier()) return false;
      share.follow<T>(plan_, places.rows, H_, worker);
      for (int s = 0; s < S; ++s) {
        if (Cell::segments[s].phase != phase) continue;
        for (Index i = rows.first; i < rows.last; ++i) {
          const Index row = places.rows.row(i);
          a[i - rows.first] = dgates_at(t, row, block_first) + Cell::segments[s].column * H_;
          c[i - rows.first] = (phase > 0 ? d_reset_h_ : call_.dh0) + row * H_;
        }
        multiply<phase == 0 ? Base::self : Base::zero>(rows.size(), RowPointers<T>{a, 1, c},
                                                       hidden_[s], share.panels.first,
                                                       share.panels.last);
      }
      return true;
    });
  }

  PYRNN_INLINE GradRow<T> grad_row(const Places<T>& places, Index t, Index row,
                                   Index block_first) const {
    const Index at = places.index(t, row);
    GradRow<T> result{};
    result.H = H_;
    result.gates = call_.tape.gates + at * C * H_;
    result.dy = call_.dy == nullptr ? nullptr : call_.dy + at * H_;
    result.dh = call_.dh0 + row * H_;
    result.dgates = dgates_at(t, row, block_first);
    if constexpr (Cell::tapes_h) {
      result.h_prev = places.before(call_.tape.h, call_.in.h0, t, row);
    }
    if constexpr (Cell::has_c) {
      result.c_prev = places.before(call_.tape.c, call_.in.c0, t, row);
      result.c = call_.tape.c + at * H_;
      result.dc = call_.dc0 + row * H_;
    }
    if constexpr (Cell::phases > 1) result.d_reset_h = d_reset_h_ + row * H_;
    return result;
  }

  // Every alive (step, row) of the block, the same list for every worker.
  Index list(const Places<T>& places, Range steps, const Lists& lists, Index alive) const {
    Index k = 0;
    for (Index t = steps.first; t < steps.last; ++t) {
      alive = places.rows.alive(t, alive);
      for (Index i = 0; i < alive; ++i, ++k) {
        const Index row = places.rows.row(i), at = places.index(t, row);
        lists.dgates[k] = dgates_at(t, row, steps.first);
        lists.step[k] = t;
        lists.row[k] = row;
        if (call_.in.tokens != nullptr) {
          lists.tokens[k] = call_.in.tokens[at];
        } else {
          lists.x[k] = call_.in.x + at * I_;
          lists.dx[k] = call_.dx + at * I_;
        }
      }
    }
    return k;
  }

  void input_gradient(const Worker& worker, const Lists& lists, Index K) const {
    if (call_.dx == nullptr) return;
    const Range own = part(K, worker.index, worker.count);
    multiply<Base::zero>(own.size(),
                         RowPointers<T>{lists.dgates + own.first, 1, lists.dx + own.first}, input_,
                         0, input_.count());
  }

  Panels<T> operand(T* data, Index K, Index columns) const { return {data, K, columns, 1, {}}; }

  void pack_operands(const Worker& worker, const Places<T>& places, const Lists& lists,
                     Index K) const {
    if (call_.dx != nullptr) {
      pack_operand(operand(x_, K, I_), lists.x, part(panels_of<T>(I_), worker.index, worker.count));
    }
    const Range own = part(panels_of<T>(H_), worker.index, worker.count);
    for_phases<Cell>([&](auto phase_constant) {
      constexpr int phase = decltype(phase_constant)::value;
      for (Index p = own.first; p < own.last; ++p) {
        T* to = operand_[phase] + p * K * panel_width<T>;
        for (Index k = 0; k < K; ++k, to += panel_width<T>) {
          pack_hidden<phase>(places, lists.step[k], lists.row[k], p * panel_width<T>, to);
        }
      }
      return true;
    });
  }

  // One line of what W_hh multiplied at step t, from unit `first` on.
  template <int phase>
  void pack_hidden(const Places<T>& places, Index t, Index row, Index first, T* line) const {
    const bool starts = places.starts(t, row);
    const Index before = starts ? 0 : places.index(places.time.before(t), row);
    const TapeRow<T> tape{H_, call_.tape.gates + before * C * H_,
                          Cell::tapes_h ? call_.tape.h + before * H_ : nullptr,
                          Cell::has_c ? call_.tape.c + before * H_ : nullptr};
    const T* const h0 = call_.in.h0 + row * H_;
    const T* const gates = call_.tape.gates + places.index(t, row) * C * H_;
    const Index last = min(H_, first + panel_width<T>);
    for (Index u = last; u < first + panel_width<T>; ++u) line[u - first] = T(0);
    for_lanes<T>(first, last, [&](const auto& at) {
      Vec<T> h = starts ? at.load(h0) : Cell::template hidden<T>(at, tape);
      if constexpr (phase > 0) h = Cell::template operand<T>(at, gates, h);
      at.store(line - first, h);
    });
  }

  void weight_gradients(const Worker& worker, const Lists& lists, Index K, bool first) const {
    const Panels<T> x = operand(x_, K, I_);
    T* const slice = slices_ + worker.index * panel_width<T> * block_ * B_;
    const Range own = part(panels_of<T>(H_), worker.index, worker.count);
    for (Index p = own.first; p < own.last; ++p) {
      const Index unit = p * panel_width<T>;
      const int width = static_cast<int>(min(H_ - unit, panel_width<T>));
      for (int g = 0; g < G; ++g) {
        const Index at = g * H_ + unit;  // row of the parameters
        const int column = hidden_column<Cell>(g);
        Slice<T> d = pack_slice(slice, lists.dgates, K, at, width);
        if (call_.in.tokens != nullptr) {
          scatter_weight(d, lists.tokens, I_, call_.dw_ih + at * I_);
        } else {
          accumulate_weight(d, x, call_.dw_ih + at * I_, first);
        }
        if (call_.db_ih != nullptr) accumulate_bias(d, call_.db_ih + at, first);
        if (column != g) d = pack_slice(slice, lists.dgates, K, column * H_ + unit, width);
        const Panels<T> h = operand(operand_[phase_of(g)], K, H_);
        accumulate_weight(d, h, call_.dw_hh + at * H_, first);
        if (call_.db_hh != nullptr) accumulate_bias(d, call_.db_hh + at, first);
      }
    }
  }

  static constexpr int phase_of(int gate) {
    for (const Segment& s : Cell::segments) {
      if (gate >= s.gate && gate < s.gate + s.count) return s.phase;
    }
    return 0;
  }

  // (step, row) pairs of a block: two slices of one line each, 16 KiB, share L1.
  static constexpr Index rows_of_a_block = 256;

  const Backward<T>& call_;
  const Index T_, B_, I_, H_;
  const Plan plan_;
  const Index chunk_;
  const double cost_of_step_;
  const Index block_;  // steps

  Panels<T> hidden_[S]{};          // W_hh of each segment, depth count*H
  Panels<T> input_{};              // W_ih, depth G*H
  T* x_ = nullptr;                 // packed x of a block, depth K
  T* operand_[2]{};                // packed operands of W_hh of each phase, depth K
  T* window_ = nullptr;            // [block, B, C*H] gradients of the gates
  T* d_reset_h_ = nullptr;         // [B, H]
  T* slices_ = nullptr;            // [threads, K, panel_width]
  Lists lists_{};                  // [threads, K] each
  const T** pointer_a_ = nullptr;  // [threads, B]
  T** pointer_c_ = nullptr;
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
