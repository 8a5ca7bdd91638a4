// The forward time loop, for every cell: W_ih x for a block of steps, then step by step
// W_hh h_{t-1}, phase by phase, and the cell's pointwise part.
#pragma once

#include "schedule.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Cell, class T>
class ForwardScan {
 public:
  static void run(const Forward<T>* calls, int count, bool chained, Team& team) {
    run_calls<ForwardScan>(calls, count, chained, team);
  }

 private:
  static constexpr int G = Cell::gates, C = Cell::columns;

  template <class Scan, class Call>
  friend void run_jobs(const Call* calls, int count, const Place& place, Team& team);
  template <class Scan, class Call>
  friend bool together(const Call& call, bool chained);
  static constexpr bool walks_back = false;

  ForwardScan(const Forward<T>& call, const Place& place)
      : call_(call),
        T_(call.in.shape.B == 0 ? 0 : call.in.shape.T),  // no rows, no steps to walk
        B_(call.in.shape.B),
        I_(call.in.shape.I),
        H_(call.in.shape.H),
        save_(call.save),
        plan_(Plan::of(G * H_ * (I_ + H_), B_, T_, panels_of<T>(H_), place.max_threads)),
        chunk_(place.chunk),
        cost_of_step_(double(G * H_) * double(I_ + H_) * double(B_)) {
    const Index bytes = B_ * C * H_ * Index(sizeof(T)) / (plan_.by_rows ? plan_.threads : 1);
    block_ = clamp(block_bytes / max(1, bytes), 1, max(1, T_));
    if (chunk_ > 0) block_ = min(block_, chunk_);
  }

  int threads() const { return plan_.threads; }
  double work_of_all() const { return cost_of_step_ * double(T_); }
  void begin() { sum_biases(); }

  void carve(Carver& carver) {
    bias_ = carver.take<T>(C * H_);
    const Index packed = packs() ? panels_of<T>(H_) * panel_width<T> : 0;
    input_ = {carver.take<T>(gathers() ? 0 : packed * G * I_), I_, H_, G, {}};
    for (int g = 0; g < G; ++g) input_.start[g] = g * H_;
    for (int p = 0; p < Cell::phases; ++p) {
      const PhaseGates<Cell> gates(p);
      hidden_[p] = {carver.take<T>(packed * gates.count * H_), H_, H_, gates.count, {}};
      for (int g = 0; g < gates.count; ++g) hidden_[p].start[g] = gates.column[g] * H_;
    }
    once_ = packs() ? nullptr
                    : carver.take<T>(plan_.threads * panels_at_once * panel_width<T> * max(I_, H_));
    window_ = save_ ? nullptr : carver.take<T>(block_ * B_ * C * H_);
    reset_h_ = Cell::phases > 1 ? carver.take<T>(B_ * H_) : nullptr;
    const Index pointers = block_ * B_ * (plan_.by_rows ? 1 : plan_.threads);
    pointer_a_ = carver.take<const T*>(pointers);
    pointer_c_ = carver.take<T*>(pointers);
  }

  // The hidden side's bias joins its column; a column of W_hh alone has only that.
  void sum_biases() {
    const Params<T>& p = call_.in.params;
    fill(bias_, {0, C * H_}, T(0));
    for (int g = 0; g < G; ++g) {
      T* const input = bias_ + g * H_;
      T* const hidden = bias_ + hidden_column<Cell>(g) * H_;
      for (Index u = 0; u < H_; ++u) {
        if (p.b_ih != nullptr) input[u] += p.b_ih[g * H_ + u];
        if (p.b_hh != nullptr) hidden[u] += p.b_hh[g * H_ + u];
      }
    }
  }

  void pack(Range panels) const {
    const Params<T>& p = call_.in.params;
    if (!gathers()) {
      const Range own = grouped(panels, G);
      pack_transposed(input_, const_cast<T*>(input_.data), p.w_ih, own.first, own.last);
    }
    for (int phase = 0; phase < Cell::phases; ++phase) {
      const PhaseGates<Cell> gates(phase);
      const Range own = grouped(panels, gates.count);
      pack_transposed(hidden_[phase], const_cast<T*>(hidden_[phase].data),
                      p.w_hh + gates.first * H_ * H_, own.first, own.last);
    }
  }

  // A single step uses each weight once: panels are packed as they are needed.
  bool packs() const { return T_ > 1; }
  T* once(const Worker& worker) const {
    return once_ + worker.index * panels_at_once * panel_width<T> * max(I_, H_);
  }

  // Few tokens: reading their columns of W_ih is cheaper than packing all of it.
  bool gathers() const { return call_.in.tokens != nullptr && (!packs() || T_ * B_ < I_ / 8); }

  void work(Worker& worker) { save_ ? work<true>(worker) : work<false>(worker); }

  template <bool save>
  void work(Worker& worker) {
    const Rows rows = Rows::of(call_.in);
    const Time time{T_, block_, call_.in.reverse};
    const Places<T> places{call_.in, time, rows};
    Share share = Share::of<T>(plan_, rows, H_, worker);
    if (plan_.by_rows) {
      pack(part(panels_of<T>(H_), worker.index, worker.count));
      if (!worker.barrier()) return;
    } else {
      if (packs()) pack(share.panels);
    }
    // By units every worker lists all rows, in its own part of the arrays.
    const Index list = block_ * (plan_.by_rows ? share.rows.first : B_ * worker.index);
    RowLists lists{pointer_a_ + list, pointer_c_ + list};

    start_cells<save>(share, rows);
    zero_padding(share, rows);
    Index alive = 0;
    for (Index i = 0; i < time.blocks(); ++i) {
      const Range steps = time.steps(i);
      if (!worker.proceed(cost_of_step_ * double(steps.size()))) return;
      if (chunk_ > 0 && worker.job > 0 && !worker.await_steps(worker.job - 1, steps.last)) return;
      project(worker, share, places, steps, lists, alive);
      for (Index s = 0; s < steps.size(); ++s) {
        const Index t = time.at(steps, s);
        alive = rows.alive(t, alive);
        const Range own{share.rows.first, clamp(alive, share.rows.first, share.rows.last)};
        if (!step<save>(worker, share, places, own, t, steps.first, lists)) return;
      }
      if (chunk_ == 0) continue;
      if (!worker.publish(steps.last)) return;
      share.follow<T>(plan_, rows, H_, worker);
    }
    finish<save>(share, places);
  }

  struct RowLists {
    const T** a;
    T** c;
  };

  // Row of gates: in the tape, or in the window of the current block.
  PYRNN_INLINE T* gates_at(Index t, Index row, Index block_first) const {
    if (save_) return call_.tape.gates + (t * B_ + row) * C * H_;
    return window_ + ((t - block_first) * B_ + row) * C * H_;
  }

  // Without a tape c_n is the running c.
  template <bool save>
  void start_cells(const Share& share, const Rows& rows) const {
    if constexpr (Cell::has_c && !save) {
      for (Index i = share.rows.first; i < share.rows.last; ++i) {
        const Index at = rows.row(i) * H_;
        copy(call_.in.c0 + at, call_.c_n + at, share.units);
      }
    }
  }

  void zero_padding(const Share& share, const Rows& rows) const {
    if (rows.order == nullptr) return;
    for (Index i = share.rows.first; i < share.rows.last; ++i) {
      const Index row = rows.row(i);
      for (Index t = rows.length(row); t < T_; ++t) {
        const Index at = (t * B_ + row) * H_;
        fill(call_.y + at, share.units, T(0));
        if (!save_) continue;
        for (int c = 0; c < C; ++c) fill(call_.tape.gates + at * C + c * H_, share.units, T(0));
        if constexpr (Cell::has_c) fill(call_.tape.c + at, share.units, T(0));
        if constexpr (Cell::tapes_h) fill(call_.tape.h + at, share.units, T(0));
      }
    }
  }

  // gates = bias + W_ih x, for the worker's part of every alive row of the block.
  void project(const Worker& worker, const Share& share, const Places<T>& places, Range steps,
               RowLists lists, Index alive) const {
    const Range panels = grouped(share.panels, G);
    Index n = 0;
    for (Index s = 0; s < steps.size(); ++s) {
      const Index t = places.time.at(steps, s);
      alive = places.rows.alive(t, alive);
      const Index last = min(alive, share.rows.last);
      for (Index i = share.rows.first; i < last; ++i) {
        const Index row = places.rows.row(i);
        T* const gates = gates_at(t, row, steps.first);
        for (int c = G; c < C; ++c) {
          copy(bias_ + c * H_, gates + c * H_, share.units);
        }
        if (call_.in.tokens != nullptr) {
          gather(call_.in.tokens[places.index(t, row)], gates, share, panels);
        } else {
          lists.a[n] = call_.in.x + places.index(t, row) * I_;
          lists.c[n] = gates;
          ++n;
        }
      }
    }
    const RowPointers<T> list{lists.a, 1, lists.c};
    if (packs()) {
      multiply<Base::row>(n, list, input_, panels.first, panels.last, bias_);
    } else if (n > 0) {
      multiply_once<Base::row>(n, list, input_, call_.in.params.w_ih, once(worker), panels.first,
                               panels.last, bias_);
    }
  }

  // The column of W_ih that a one-hot vector would select.
  void gather(std::int64_t token, T* gates, const Share& share, Range panels) const {
    if (gathers()) {
      for (int g = 0; g < G; ++g) {
        for (Index u = share.units.first; u < share.units.last; ++u) {
          const Index at = g * H_ + u;
          gates[at] = bias_[at] + call_.in.params.w_ih[at * I_ + token];
        }
      }
      return;
    }
    for (Index p = panels.first; p < panels.last; ++p) {
      const Index column = input_.column(p);
      const int width = input_.width(p);
      const T* const line = input_.panel(p) + token * panel_width<T>;
      for (int v = 0; v < panel_vectors; ++v) {
        const Vec<T> sum = load_line(bias_ + column, v, width) + load(line + v * lanes<T>);
        store_line(gates + column, v, width, sum);
      }
    }
  }

  // Advances the worker's rows and units by one step. False once the call is cancelled.
  template <bool save>
  bool step(Worker& worker, Share& share, const Places<T>& places, Range rows, Index t,
            Index block_first, RowLists lists) const {
    return for_phases<Cell>([&](auto phase_constant) {
      constexpr int phase = decltype(phase_constant)::value;
      Index n = 0;
      for (Index i = rows.first; i < rows.last; ++i) {
        const Index row = places.rows.row(i);
        lists.a[n] = phase > 0 ? reset_h_ + row * H_ : places.before(call_.y, call_.in.h0, t, row);
        lists.c[n] = gates_at(t, row, block_first);
        ++n;
      }
      constexpr PhaseGates<Cell> gates(phase);
      const Range panels = grouped(share.panels, gates.count);
      const RowPointers<T> list{lists.a, 1, lists.c};
      if (packs()) {
        multiply<Base::self>(n, list, hidden_[phase], panels.first, panels.last);
      } else if (n > 0) {
        multiply_once<Base::self>(n, list, hidden_[phase],
                                  call_.in.params.w_hh + gates.first * H_ * H_, once(worker),
                                  panels.first, panels.last);
      }
      for (Index i = rows.first; i < rows.last; ++i) {
        const StepRow<T> row = step_row<save>(places, t, places.rows.row(i), block_first);
        for_stages<Cell>([&](auto stage_constant) {
          constexpr int stage = decltype(stage_constant)::value;
          for_lanes<T>(share.units.first, share.units.last, [&](const auto& at) {
            Cell::template pointwise<phase, stage, save, T>(at, row);
          });
        });
      }
      // The next product reads what every worker wrote.
      if (!worker.proceed(cost_of_step_)) return false;
      if (plan_.by_rows) return true;
      if (!worker.barrier()) return false;
      share.follow<T>(plan_, places.rows, H_, worker);
      return true;
    });
  }

  template <bool save>
  PYRNN_INLINE StepRow<T> step_row(const Places<T>& places, Index t, Index row,
                                   Index block_first) const {
    const Index at = places.index(t, row) * H_;
    StepRow<T> result{};
    result.H = H_;
    result.gates = gates_at(t, row, block_first);
    result.h_prev = places.before(call_.y, call_.in.h0, t, row);
    result.h = call_.y + at;
    if constexpr (Cell::has_c) {
      if constexpr (save) {
        result.c_prev = places.before(call_.tape.c, call_.in.c0, t, row);
        result.c = call_.tape.c + at;
      } else {
        result.c = call_.c_n + row * H_;
        result.c_prev = result.c;
      }
    }
    if constexpr (Cell::tapes_h && save) result.tape_h = call_.tape.h + at;
    if constexpr (Cell::phases > 1) result.reset_h = reset_h_ + row * H_;
    return result;
  }

  template <bool save>
  void finish(const Share& share, const Places<T>& places) const {
    for (Index i = share.rows.first; i < share.rows.last; ++i) {
      const Index row = places.rows.row(i);
      const bool empty = places.rows.length(row) == 0;
      const Index last = empty ? 0 : places.index(places.last_step(row), row) * H_;
      copy(empty ? call_.in.h0 + row * H_ : call_.y + last, call_.h_n + row * H_, share.units);
      if constexpr (Cell::has_c && save) {
        copy(empty ? call_.in.c0 + row * H_ : call_.tape.c + last, call_.c_n + row * H_,
             share.units);
      }
    }
  }

  const Forward<T>& call_;
  const Index T_, B_, I_, H_;
  const bool save_;
  const Plan plan_;
  const Index chunk_;
  const double cost_of_step_;
  Index block_;  // steps whose gates are projected at once

  T* bias_ = nullptr;      // [C*H]
  Panels<T> input_{};      // W_ih^T, depth I
  Panels<T> hidden_[2]{};  // W_hh^T of each phase, depth H
  T* once_ = nullptr;      // [threads, panels_at_once, max(I, H), panel_width]
  T* window_ = nullptr;    // [block, B, C*H] without a tape
  T* reset_h_ = nullptr;   // [B, H]
  const T** pointer_a_ = nullptr;
  T** pointer_c_ = nullptr;
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
