// Backpropagation through time, for every cell: step by step the pointwise part and W_hh^T times the
// gradients of the gates; after each block of steps dx, dW and db as large products.
#pragma once

#include "left.hpp"
#include "masks.hpp"
#include "schedule.hpp"
#include "structure_backward.hpp"
#include "walk.hpp"
#include "window.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Cell, class T>
class BackwardScan {
 public:
  static void run(const Backward<T>* calls, int count, bool chained, Team& team) {
    run_calls<BackwardScan>(calls, count, chained, team);
  }
  static std::size_t packed_bytes(const Backward<T>& call) {
    Carver measure;
    BackwardScan(call, {1, 0}).carve_weights(measure, true);
    return measure.used();
  }

 private:
  static constexpr int G = Cell::gates, C = Cell::columns;
  static constexpr Index W = panel_width<T>;

  // The (step, row) pairs of a block, in the order of the walk: what the large products read of them.
  struct Lists {
    const T** da_x;        // [K] rows of the window
    const T** x;           // [K] rows of x
    T** dx;                // [K]
    const T** c;           // [K] rows of c_t and of c_{t-1}, with diagonal peepholes
    const T** c_prev;      // [K]
    std::int64_t* tokens;  // [K]
    Index* step;           // [K]
    Index* row;            // [K]
  };

  template <class Scan, class Call>
  friend void run_jobs(const Call* calls, int count, Place place, Team& team);
  template <class Scan, class Call>
  friend bool together(const Call& call, bool chained);
  static constexpr bool walks_back = true;

  BackwardScan(const Backward<T>& call, const Place& place)
      : call_(call),
        T_(call.in.shape.B == 0 ? 0 : call.in.shape.T),  // no rows, no steps to walk
        B_(call.in.shape.B),
        I_(call.in.shape.I),
        H_(call.in.shape.H),
        P_(call.in.P),
        structure_(call),
        plan_(Plan::of({G * H_ * (I_ + P_) + structure_.phases.work(), B_, T_, panels_of<T>(H_),
                        structure_.phases.meetings(), G * H_ * (I_ + P_) * Index(sizeof(T))},
                       place)),
        chunk_(place.chunk),
        cost_of_step_((double(G * H_) * double(I_ + P_) + double(structure_.phases.work())) *
                      double(B_)),
        pointwise_(pointwise_of<Cell>(call.in.variant, call.dcells != nullptr)),
        block_(clamp(rows_of_a_block / max(1, B_), 1, max(1, T_))) {
    for (int p = 0; p < Cell::phases; ++p) {
      walks_[p] = Walk(units_of_a_tile(1), window_depth<T>(H_, gates_of(p)) * line_bytes, true);
    }
  }

  int threads() const { return plan_.threads; }
  double work_of_all() const { return 2 * cost_of_step_ * double(T_); }
  void begin() { carried_ = d_masked_ == nullptr ? call_.dh0 : d_masked_; }

  // Values of a row of gradients of `gates` gates, by panels.
  Index window_size(int gates) const { return spread(panels_of<T>(H_) * gates) * W; }
  // Whether the gradients of weights read the windows where they lie. Out of the second-level cache lines far apart
  // come one by one: of larger windows they are copied first, those of all gates of a panel at once.
  bool reads_in_place() const {
    return block_ * B_ * window_size(G) * Index(sizeof(T)) <= near_bytes;
  }
  // A call of few rows reads W_ih once, for the gradient of x, and packs it part by part meanwhile: where workers
  // have all rows at hand, and layer norm does not make those in between.
  bool uses_input_once() const {
    const bool shares = call_.packed != nullptr || call_.keep != nullptr;
    const bool by_rows = plan_.by_rows && plan_.threads > 1;
    const bool few = T_ * B_ <= rows_of_a_block / 4;
    return call_.dx != nullptr && few && !shares && !by_rows && !structure_.phases.norm;
  }
  WindowMatrix<T> input_window() const { return {call_.in.params.w_ih, H_, I_, G}; }
  // Values of a thread's part of it.
  Index once_size() const { return min(window_part<T>, input_.size()); }
  Range own_inputs(const Worker& worker) const {
    return part(panels_of<T>(I_), worker.index, worker.count);
  }

  void carve_weights(Carver& carver, bool input_too) {
    for (int p = 0; p < Cell::phases; ++p) {
      hidden_[p] = {nullptr, window_depth<T>(H_, gates_of(p)), P_, 1, {}};
      hidden_[p].data = carver.take<T>(hidden_[p].size());
    }
    if (call_.dx != nullptr) {
      input_ = {nullptr, window_depth<T>(H_, G), I_, 1, {}};
      if (input_too) input_.data = carver.take<T>(input_.size());
    }
    structure_.carve_matrices(carver);
  }

  void carve(Carver& carver) {
    if (const void* const shared = call_.packed != nullptr ? call_.packed : call_.keep) {
      Carver of_many(const_cast<void*>(shared));
      carve_weights(of_many, true);
    } else {
      carve_weights(carver, !uses_input_once());
    }
    const Index K = block_ * B_;
    if (uses_input_once()) {
      once_ = carver.take<T>(plan_.threads * once_size());
      room_ = carver.take<const T*>(plan_.threads * K);
    }
    if (call_.dx != nullptr) x_ = carver.take<T>(panels_of<T>(I_) * W * K);
    da_x_ = carver.take<T>(K * window_size(G));
    for (int p = 0; p < Cell::phases; ++p) {
      operand_[p] = carver.take<T>(panels_of<T>(P_) * W * K);
      da_h_[p] = Cell::splits ? carver.take<T>(K * window_size(gates_of(p))) : da_x_;
    }
    d_reset_h_ = Cell::phases > 1 ? carver.take<T>(B_ * H_) : nullptr;
    mask_.carve(call_.in, carver);
    zoneout_.carve(call_.in, carver);
    d_masked_ = !mask_.needed(call_.in.variant) ? nullptr : carver.take<T>(B_ * P_);
    structure_.carve(carver, K, plan_.threads);
    slices_ = carver.take<T>(plan_.threads * slices_of_a_thread() * W * K);
    const Index n = plan_.threads * K;
    lists_.da_x = carver.take<const T*>(n);
    lists_.x = carver.take<const T*>(n);
    lists_.dx = carver.take<T*>(n);
    const bool peepholes = Cell::has_c && call_.dpeephole != nullptr;
    for (auto* list : {&lists_.c, &lists_.c_prev}) {
      *list = carver.take<const T*>(peepholes ? n : 0);
    }
    lists_.tokens = carver.take<std::int64_t>(n);
    lists_.step = carver.take<Index>(n);
    lists_.row = carver.take<Index>(n);
    const Index m = plan_.threads * B_;
    pointer_a_ = carver.take<const T*>(m);
    pointer_c_ = carver.take<T*>(m);
    grad_rows_ = carver.take<GradRow<T>>(m);
  }

  static constexpr int gates_of(int phase) { return PhaseGates<Cell>(phase).count; }

  void work(Worker& worker) {
    const Rows rows = Rows::of(call_.in);
    const Time time{T_, block_, call_.in.reverse};
    const Places<T> places{call_.in, time, rows};
    Share share = Share::of<T>(plan_, rows, H_, P_, worker);
    const Index own = worker.index * block_ * B_;
    Lists lists{lists_.da_x + own,   lists_.x + own,      lists_.dx + own,   lists_.c + own,
                lists_.c_prev + own, lists_.tokens + own, lists_.step + own, lists_.row + own};

    if (call_.packed == nullptr) pack(worker);
    start(worker, share, rows);
    if (!worker.barrier()) return;
    Index alive = 0;
    for (Index i = time.blocks() - 1; i >= 0; --i) {
      const Range steps = time.steps(i);
      share.follow<T>(plan_, rows, H_, P_, worker);
      const Index done = T_ - steps.first;
      if (chunk_ > 0 && worker.job > 0 && !worker.await_steps(worker.job - 1, done)) return;
      if (structure_.cell_x != nullptr && !normalise_cells(worker, share, places, steps, alive))
        return;
      const Index K = list(places, steps, lists, alive);
      Left<T> left = left_of(K);
      for (Index s = steps.size() - 1; s >= 0; --s) {
        const Index t = time.at(steps, s);
        alive = rows.alive(t, alive);
        const Range some{share.rows.first, clamp(alive, share.rows.first, share.rows.last)};
        if (!step(worker, share, places, some, t, left)) return;
        left.step_back(alive);
      }
      if (!worker.barrier()) return;  // the window is complete
      input_gradient(worker, places, lists, K);
      if (chunk_ > 0 && !worker.publish(done)) return;
      pack_operands(worker, places, lists, K, left);
      if (!worker.barrier()) return;  // the operands are complete
      weight_gradients(worker, places, lists, K, i + 1 == time.blocks() && !call_.accumulate);
      if (!worker.barrier()) return;  // both may be overwritten
    }
    if (d_masked_ == nullptr) return;
    share.follow<T>(plan_, rows, H_, P_, worker);
    const Chosen<T> rule(call_.in.variant);
    for (Index i = share.rows.first; i < share.rows.last; ++i) {
      const Index row = rows.row(i);
      for_lanes<T>(share.h_units.first, share.h_units.last, [&](const auto& at) {
        T* const dh = call_.dh0 + row * P_;
        at.store(dh,
                 at.load(dh) + rule.masked(at, mask_.row(row, P_), at.load(d_masked_ + row * P_)));
      });
    }
  }

  // The weights as the walk and dx read them.
  void pack(const Worker& worker) const;

  // dh0 and dc0 hold the gradients that travel back through time, and d_masked_ beside dh0.
  void start(const Worker& worker, const Share& share, const Rows& rows) const;

  void clear_last_panel(T* row, int gates) const {
    const Index last = panels_of<T>(H_) - 1;
    fill(row, {last * gates * W, (last + 1) * gates * W}, T(0));
  }

  static void begin(const T* from, T* to, Index at, Range units) {
    if (from == nullptr) {
      fill(to + at, units, T(0));
    } else {
      copy(from + at, to + at, units);
    }
  }

  PYRNN_INLINE T* da_x_at(Index k) const { return da_x_ + k * window_size(G); }
  template <int phase>
  PYRNN_INLINE T* da_h_at(Index k) const {
    return da_h_[phase] + k * window_size(gates_of(phase));
  }

  bool step(Worker& worker, Share& share, const Places<T>& places, Range rows, Index t,
            const Left<T>& left) const {
    const T** const a = pointer_a_ + (plan_.by_rows ? share.rows.first : B_ * worker.index);
    T** const c = pointer_c_ + (plan_.by_rows ? share.rows.first : B_ * worker.index);
    GradRow<T>* const made = grad_rows_ + (c - pointer_c_);
    const Index first_line = left.first_line() + rows.first;
    // Calls f(i, row, its line in the windows, GradRow); what f changes of the latter, later passes over the rows see.
    const auto for_rows = [&](auto f) {
      for (Index i = 0; i < rows.size(); ++i) {
        f(i, places.rows.row(rows.first + i), first_line + i, made[i]);
      }
    };
    // The tape of a row comes while the one before it is computed.
    const auto expect_next = [&](Index i) {
      if (i + 1 == rows.size()) return;
      for (int c = 0; c < C; ++c) expect(made[i + 1].gates + c * H_, share.units);
    };
    zoneout_.draw(call_.in, places, t, rows, share.h_panels, share.panels);
    for_rows([&](Index i, Index row, Index k, GradRow<T>& at_row) {
      point(at_row, places, t, row, k);
      if constexpr (Cell::has_c) {
        left.enter(at_row, rows.first + i);
        // Read before all else of the step.
        if (structure_.phases.projects && at_row.dy != nullptr) expect(at_row.dy, share.h_units);
      }
    });
    if constexpr (Cell::phases == 1) {
      if (structure_.phases.any()) {
        return structured_step(worker, share, places, rows.size(), t, for_rows, expect_next, a, c);
      }
    }
    return for_phases<Cell, true>([&](auto phase_constant) {
      constexpr int phase = decltype(phase_constant)::value;
      for_rows([&](Index i, Index row, Index k, const GradRow<T>& at_row) {
        if constexpr (phase + 1 == Cell::phases) expect_next(i);
        pointwise_.backward[phase](call_.in.variant, at_row, share.panels, da_x_at(k),
                                   da_h_at<phase>(k));
        a[i] = da_h_at<phase>(k);
        c[i] = (phase > 0 ? d_reset_h_ : carried_) + row * P_;
      });
      if (!worker.proceed(cost_of_step_)) return false;
      return carry_back<phase>(worker, share, places, rows.size(), t, {a, 1, c});
    });
  }

  // x^ of c~ of a block's rows, which wait for nothing.
  bool normalise_cells(Worker& worker, Share& share, const Places<T>& places, Range steps,
                       Index alive) const;

  // A step back through the phases of structure.hpp.
  template <class ForRows, class ExpectNext>
  bool structured_step(Worker& worker, Share& share, const Places<T>& places, Index n, Index t,
                       ForRows for_rows, ExpectNext expect_next, const T** a, T** c) const;

  // Whether W_hh^T da_h adds to what is carried back beside it; a mask comes between the two.
  template <int phase>
  PYRNN_INLINE bool adds_up() const {
    return phase == 0 && d_masked_ == nullptr;
  }

  // dh += W_hh^T da_h.
  template <int phase>
  bool carry_back(Worker& worker, Share& share, const Places<T>& places, Index n, Index t,
                  const RowPointers<T>& rows) const {
    constexpr int gates = gates_of(phase);
    const Panels<T>& w = hidden_[phase];
    if (!plan_.by_rows) {
      if (!worker.arrive()) return false;
      share.follow<T>(plan_, places.rows, H_, P_, worker);
    }
    const bool back = t & 1;
    const Walk& walk = walks_[phase];
    const Base base = adds_up<phase>() ? Base::self : Base::zero;
    Range k{0, w.depth};
    for (int other = 0; !plan_.by_rows && other < worker.count; ++other) {
      if (!worker.await(other)) return false;
      const Range theirs = part(panels_of<T>(H_), other, worker.count);
      k = {theirs.first * gates * W, theirs.last * gates * W};
      if (other + 1 < worker.count)
        multiply_along(walk, share.h_panels, back, n, rows, w, k, base, true);
    }
    multiply_along(walk, share.h_panels, back, n, rows, w, k, base);
    return true;
  }

  // k: its line in the windows. At each of its callers it would take more room than it is worth.
  __attribute__((noinline)) void point(GradRow<T>& to, const Places<T>& places, Index t, Index row,
                                       Index k) const {
    const Index at = places.index(t, row);
    to = {};
    to.H = H_;
    to.gates = call_.tape.gates + at * C * H_;
    to.dy = call_.dy == nullptr ? nullptr : call_.dy + at * P_;
    to.dh = call_.dh0 + row * P_;
    if constexpr (Cell::tapes_h) {
      to.h_prev = places.before(call_.tape.h, call_.in.h0, P_, t, row);
    }
    if constexpr (Cell::has_c) {
      to.c_prev = places.before(call_.tape.c, call_.in.c0, H_, t, row);
      to.c = call_.tape.c + at * H_;
      to.dc = call_.dc0 + row * H_;
    }
    if constexpr (Cell::phases > 1) to.d_reset_h = d_reset_h_ + row * H_;
    const Variant<T>& variant = call_.in.variant;
    if (variant.plain) return;
    to.kept_h = zoneout_.of_h(row);
    to.kept_c = zoneout_.of_c(row);
    if (Cell::has_c && variant.zoneout_h > 0) to.h = call_.tape.h + at * P_;
    if (call_.dcells != nullptr) to.dcells = call_.dcells + at * H_;
    if (d_masked_ != nullptr) {
      to.mask = mask_.row(row, P_);
      to.d_masked = d_masked_ + row * P_;
    }
    structure_.enter(to, k, row);
  }

  // Every alive (step, row) of the block, the same list for every worker. Sums over it are continued by
  // the blocks before: in the order of the walk they do not depend on where blocks begin.
  Index list(const Places<T>& places, Range steps, const Lists& lists, Index alive) const;

  // dx = W_ih^T da_x, or, of layer norm, ds_x, which is made here.
  void input_gradient(const Worker& worker, const Places<T>& places, const Lists& lists,
                      Index K) const;

  Panels<T> operand(T* data, Index K, Index columns) const { return {data, K, columns, 1, {}}; }

  // The operand of which an LSTM's walk leaves lines: of W_hr, or else of W_hh.
  Left<T> left_of(Index K) const {
    if constexpr (Cell::has_c) {
      if (structure_.phases.projects) return {operand(structure_.u, K, H_), false};
      return {operand(operand_[0], K, H_), true};
    }
    return {};
  }

  void pack_operands(const Worker& worker, const Places<T>& places, const Lists& lists, Index K,
                     const Left<T>& left) const;

  void point(TapeRow<T>& to, const Places<T>& places, Index t, Index row) const;

  void weight_gradients(const Worker& worker, const Places<T>& places, const Lists& lists, Index K,
                        bool first) const;

  // db += sum_k d[k] of all biases (or nullptr) that are added to the same gates, from `row` on. Sums that
  // begin at 0 are the same for all, and taken once.
  template <int count>
  void bias_gradients(const Slice<T>& d, Index row, bool first, T* const (&biases)[count]) const;

  // dp += sum_k d[k] c[k], of c_{t-1} or, for the gate o, c~.
  void peephole_gradient(const Places<T>& places, const Lists& lists, const Slice<T>& d, Index unit,
                         int gate, bool first) const;

  // (step, row) pairs of a block: a slice of one line each, 16 KiB, takes half of L1.
  static constexpr Index rows_of_a_block = 256;
  // Those of all gates of a panel of units, and one of its own.
  Index slices_of_a_thread() const {
    const bool own = Cell::splits || structure_.phases.any();
    return (reads_in_place() ? 0 : G) + (own ? 1 : 0);
  }

  const Backward<T>& call_;
  const Index T_, B_, I_, H_, P_;
  StructureBackward<Cell, T> structure_;
  const Plan plan_;
  const Index chunk_;
  const double cost_of_step_;
  const Pointwise<T>& pointwise_;
  const Index block_;  // steps
  Walk walks_[Cell::phases];

  Panels<T> hidden_[Cell::phases]{};  // W_hh of each phase, depth window_depth
  Panels<T> input_{};                 // W_ih, depth window_depth
  T* once_ = nullptr;                 // [threads, once_size] of W_ih, in place of input_,
  const T** room_ = nullptr;          // [threads, K] and where its rows are then
  T* x_ = nullptr;                    // packed x of a block, depth K
  T* operand_[Cell::phases]{};        // packed operands of W_hh of each phase, depth K
  T* da_x_ = nullptr;                 // [K, window_size] gradients of the gates: of W_ih x
  T* da_h_[Cell::phases]{};           // and of W_hh h, of each phase
  T* d_reset_h_ = nullptr;            // [B, H]
  RecurrentMask<T> mask_;
  ZoneoutMasks<T> zoneout_;
  T* d_masked_ = nullptr;          // [B, H] W_hh^T da_h, with a mask
  T* carried_ = nullptr;           // [B, H] where W_hh^T da_h goes: dh0 or d_masked_
  T* slices_ = nullptr;            // [threads, slices_of_a_thread, K, W]
  Lists lists_{};                  // [threads, K] each
  const T** pointer_a_ = nullptr;  // [threads, B]
  T** pointer_c_ = nullptr;
  GradRow<T>* grad_rows_ = nullptr;  // [threads, B]
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
