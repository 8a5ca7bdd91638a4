// The forward time loop, for every cell: W_ih x for a block of steps, then step by step
// W_hh h_{t-1}, phase by phase, and the cell's pointwise part.
#pragma once

#include <type_traits>

#include "both.hpp"
#include "masks.hpp"
#include "schedule.hpp"
#include "walk.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Cell, class T, class Operand = Panels<T>>
class ForwardScan {
 public:
  static void run(const Forward<T>* calls, int count, bool chained, Team& team) {
    run_calls<ForwardScan>(calls, count, chained, team);
  }

 private:
  static constexpr int G = Cell::gates, C = Cell::columns;
  static constexpr Index W = panel_width<T>;
  static constexpr Index at_once = panels_of_a_tile<Cell>;
  // Panels of units that a fused step takes at once, at most: what the sums of six rows take of L1 is 6 KiB.
  static constexpr Index most_fused = 16 / C;
  // Between the lists of two workers: what each writes at every step lies on lines of its own.
  static constexpr Index list_gap = 16;
  // With so many the arithmetic takes longer than weights out of a slow third-level cache.
  static constexpr Index least_rows_from_l3 = 24;
  // Reduced precision is always packed beforehand, has no tape, and reads whole rows of h: what their
  // largest value is, is known when all of them are.
  static constexpr bool exact = std::is_same_v<Operand, Panels<T>>;

  template <class Scan, class Call>
  friend void run_jobs(const Call* calls, int count, Place place, Team& team);
  template <class Scan, class Call>
  friend bool together(const Call& call, bool chained);
  static constexpr bool walks_back = false;

  ForwardScan(const Forward<T>& call, const Place& place)
      : call_(call),
        T_(call.in.shape.B == 0 ? 0 : call.in.shape.T),  // no rows, no steps to walk
        B_(call.in.shape.B),
        I_(call.in.shape.I),
        H_(call.in.shape.H),
        P_(call.in.P),
        phases_(H_, P_, call.in.variant),
        plan_(Plan::of({(G * H_ * (I_ + P_) + phases_.work()) / speed_of(call.precision), B_, T_,
                        panels_of<T>(H_), phases_.meetings(), bytes_to_plan(), may_fuse(),
                        exact && may_fuse() && both_at_once<Cell>(B_)},
                       place)),
        fused_(may_fuse() && fuses()),
        chunk_(place.chunk),
        cost_of_step_((double(G * H_) * double(I_ + P_) + double(phases_.work())) * double(B_)),
        pointwise_(pointwise_of<Cell>(call.in.variant)) {
    const Index values = B_ * sums_size() * (phases_.norm ? 2 : 1);
    const Index bytes = values * Index(sizeof(T)) / (plan_.by_rows ? plan_.threads : 1);
    // Of a W_ih much larger than L2 to read it again costs more than sums that do not stay there.
    const Index most_bytes = max(block_bytes, G * H_ * I_ * Index(sizeof(T)) / 8);
    block_ = fused_ ? T_ : most_bytes / max(1, bytes);
    if (chunk_ > 0) block_ = min(block_, chunk_);
    block_ = clamp(block_, 1, max(1, T_));
    stored_ = fused_ ? 1 : block_;
    for (int phase = 0; phase < Cell::phases; ++phase) {
      const int gates = PhaseGates<Cell>(phase).count;
      const bool few = B_ < Plan::least_rows, alone = most_bundled > 1 && few && plan_.threads == 1;
      walks_[phase] = Walk(few ? units_of_a_tile(gates) : at_once, gates * P_ * line_bytes, few,
                           alone ? panels_of<T>(H_) : 0);
    }
    // Weights of as many stay in L2 while all rows pass over them.
    const Index weights_bytes = G * W * (I_ + P_) * Index(sizeof(T));
    const Index fit = block_bytes / max(1, weights_bytes) / at_once * at_once;
    fused_panels_ = clamp(fit, at_once, most_fused);
    // Narrow vectors wait for none out of L3.
    far_ = most_bundled > 1 ? weights_of_a_thread() > second_level_bytes
                            : weights_of_all() >= Plan::most_bytes;
    tall_ = most_bundled == 1 && weights_bytes > block_bytes / 4;
  }

  int threads() const { return plan_.threads; }
  double work_of_all() const { return cost_of_step_ * double(T_); }
  void begin() {
    if (call_.packed == nullptr) weights_.pack_rows_of(call_.in.params, call_.in.variant);
  }

  Index sums_size() const { return step_of_sums<Cell, T>(H_); }

  void carve(Carver& carver) {
    if (const void* const shared = call_.packed != nullptr ? call_.packed : call_.keep) {
      weights_ =
          Weights<Cell, T, Operand>::of(shared, I_, H_, P_, call_.in.variant, call_.precision);
    } else {
      weights_ = Weights<Cell, T, Operand>(carver, I_, H_, P_, call_.in.variant, nullptr,
                                           packs_input(), packs());
    }
    once_ = packs() && !uses_input_once()
                ? nullptr
                : carver.take<T>(plan_.threads * panels_at_once * W * max(I_, P_));
    window_ = fused_ ? nullptr : carver.take<T>(stored_ * B_ * sums_size());
    const auto take_if = [&carver](bool needed, Index n) {
      return needed ? carver.take<T>(n) : nullptr;
    };
    raw_input_ = take_if(phases_.norm, stored_ * B_ * sums_size());
    for (T*& raw : raw_hidden_) raw = take_if(phases_.norm, B_ * sums_size());
    for (T*& cells : cells_) cells = take_if(phases_.full && !call_.save, B_ * H_);
    fresh_ = take_if(phases_.full, B_ * H_);
    u_ = take_if(phases_.projects, B_ * H_);
    reset_h_ = Cell::phases > 1 ? carver.take<T>(B_ * H_) : nullptr;
    mask_.carve(call_.in, carver);
    zoneout_.carve(call_.in, carver);
    for (T*& masked : masked_h_) masked = take_if(mask_.needed(call_.in.variant), B_ * P_);
    const Index lists =
        stored_ * B_ * (plan_.by_rows ? 1 : plan_.threads) + list_gap * plan_.threads;
    const Index x_words = prepared_words(weights_.input);
    const Index h_words = prepared_words(weights_.hidden[0]);
    prepared_words_ = fused_ ? x_words + h_words : max(x_words, h_words);
    lists_ = {carver.take<const T*>(lists), carver.take<T*>(lists),
              carver.take<T*>(phases_.norm ? lists : 0), carver.take<StepRow<T>>(lists),
              carver.take<std::int32_t>(lists * prepared_words_)};
  }

  void pack(Range panels, Range h_panels) {
    phases().pack(call_.in.variant, panels, h_panels);
    if (!packs()) return;
    if (packs_input()) weights_.pack_input(call_.in.params, panels);
    weights_.pack_hidden(call_.in.params, panels);
  }

  const Structure<Cell, T>& phases() const { return weights_.structure; }

  // Weights for more than this call: all of them are packed, whatever it needs itself.
  bool shares() const { return call_.packed != nullptr || call_.keep != nullptr; }
  // As many as they would be in T: with less to read goes less to multiply. Few rows of reduced precision are cut by
  // units in any case.
  Index bytes_to_plan() const { return exact || B_ >= Plan::many_rows ? weights_of_all() : 0; }
  // Whether both products of a step can run at once, and whether they do.
  bool may_fuse() const {
    // Tokens add columns of W_ih, which in reduced precision are not a part of the product.
    if (!exact && call_.in.tokens != nullptr) return false;
    return Cell::phases == 1 && packs() && !phases_.parts();
  }
  bool fuses() const {
    const Index rows = plan_.by_rows ? B_ / plan_.threads : B_;
    if (rows < Plan::least_rows) return false;
    if constexpr (!exact) return rows >= Plan::many_rows;
    if constexpr (most_bundled == 1) {
      if (rows >= Plan::many_rows) return true;
      // The third-level cache keeps pace with narrow vectors. But sums that leave the registers between the products gain
      // by it only where W_ih is large: else all rows of a block of steps make better tiles of it.
      constexpr Index most_inputs = 4 * 1024 * 1024;
      const Index bytes = G * H_ * I_ * Index(sizeof(T));
      return both_at_once<Cell>(rows) ? plan_.by_rows || bytes <= most_inputs
                                      : plan_.by_rows && bytes > most_inputs / 2;
    }
    // What W_ih adds to W_hh is to stay in L2 with it, unless the arithmetic takes longer than all weights from
    // L3; while rows pass over a strip of both, that is to stay there in any case.
    if (strip_bytes() > second_level_bytes * 3 / 8) return false;
    if (rows >= least_rows_from_l3) return true;
    const Index most_bytes =
        rows < Plan::many_rows ? second_level_bytes : second_level_bytes * 7 / 4;
    return both_at_once<Cell>(rows) && weights_of_a_thread() <= most_bytes;
  }
  Index strip_bytes() const { return strip_panels<Cell> * (I_ + P_) * line_bytes; }
  Index weights_of_all() const { return G * H_ * (I_ + P_) * Index(sizeof(T)); }
  Index weights_of_a_thread() const {
    return weights_of_all() / (plan_.by_rows ? 1 : plan_.threads);
  }
  // A single step uses each weight once: panels are packed as they are needed.
  bool packs() const { return T_ > 1 || shares(); }
  // More steps use W_ih once if one product takes them all: by units, where a worker alone reads its part.
  bool uses_input_once() const {
    const bool alone = !plan_.by_rows || plan_.threads == 1;
    return packs() && !shares() && !fused_ && alone && call_.in.tokens == nullptr && T_ <= block_;
  }
  bool packs_input() const { return packs() && !gathers() && !uses_input_once(); }
  T* once(const Worker& worker) const {
    return once_ + worker.index * panels_at_once * W * max(I_, P_);
  }

  // Few tokens: reading their columns of W_ih is cheaper than packing all of it.
  bool gathers() const {
    return call_.in.tokens != nullptr && !shares() && (!packs() || T_ * B_ < I_ / 8);
  }

  struct RowLists {
    const T** a;
    T** c;
    T** raw;  // with layer norm
    StepRow<T>* row;
    std::int32_t* prepared;  // the rows of `a` as the product takes them, [prepared_words_] each
  };

  void work(Worker& worker) {
    if constexpr (exact) {
      if (call_.save) return work<true>(worker);
    }
    work<false>(worker);
    if constexpr (!exact) leave_products(call_.precision);
  }

  template <bool save>
  void work(Worker& worker) {
    const Rows rows = Rows::of(call_.in);
    const Time time{T_, block_, call_.in.reverse};
    const Places<T> places{call_.in, time, rows};
    Share share = Share::of<T>(plan_, rows, H_, P_, worker);
    if (call_.packed == nullptr) {
      const Share own = Share::by_units<T>(B_, H_, P_, worker);
      pack(own.panels, own.h_panels);
      if (plan_.by_rows && !worker.barrier()) return;
    }
    // By units every worker lists all rows, in its own part of the arrays.
    const Index list =
        stored_ * (plan_.by_rows ? share.rows.first : B_ * worker.index) + list_gap * worker.index;
    const RowLists lists{lists_.a + list, lists_.c + list, lists_.raw + list, lists_.row + list,
                         lists_.prepared + list * prepared_words_};

    if (mask_.values != nullptr) {
      if (!mask_first(worker)) return;
      share.follow<T>(plan_, rows, H_, P_, worker);
    }
    start_cells<save>(share, rows);
    zero_padding<save>(worker, share, rows);
    Index alive = 0;
    for (Index i = 0; i < time.blocks(); ++i) {
      const Range steps = time.steps(i);
      if (!worker.proceed(cost_of_step_ * double(steps.size()))) return;
      if (chunk_ > 0 && worker.job > 0 && !worker.await_steps(worker.job - 1, steps.last)) return;
      if (!fused_ && !project<save>(worker, share, places, steps, lists, alive)) return;
      for (Index s = 0; s < steps.size(); ++s) {
        const Index t = time.at(steps, s);
        alive = rows.alive(t, alive);
        const Range own{share.rows.first, clamp(alive, share.rows.first, share.rows.last)};
        const Index first = window_row(t, 0, steps.first);
        if (!step<save>(worker, share, places, own, t, first, lists)) return;
      }
      if (chunk_ == 0) continue;
      if (!worker.publish(steps.last)) return;
      share.follow<T>(plan_, rows, H_, P_, worker);
    }
    finish<save>(share, places);
  }

  // Index of a row of the window.
  PYRNN_INLINE Index window_row(Index t, Index row, Index block_first) const {
    return (t - block_first) * B_ + row;
  }

  // What W_hh sees of h0. False once the call is cancelled.
  bool mask_first(Worker& worker) const;

  // Without a tape c_n is the running c.
  template <bool save>
  void start_cells(const Share& share, const Rows& rows) const;

  template <bool save>
  void zero_padding(const Worker& worker, const Share& share, const Rows& rows) const;

  // sums = bias + W_ih x, for the worker's part of every alive row of the block. False once the call is
  // cancelled.
  template <bool save>
  bool project(Worker& worker, Share& share, const Places<T>& places, Range steps,
               const RowLists& lists, Index alive) const {
    T* const to = phases_.norm ? raw_input_ : window_;
    Index n = 0;
    for_alive(share, places, steps, alive, [&](Index t, Index row) {
      T* const sums = to + window_row(t, row, steps.first) * sums_size();
      weights_.start_sums(sums, share.panels);
      if (call_.in.tokens != nullptr) {
        gather(call_.in.tokens[places.index(t, row)], sums, share.panels);
      } else {
        lists.a[n] = call_.in.x + places.index(t, row) * I_;
        lists.c[n] = sums;
        ++n;
      }
    });
    const Range panels = grouped(share.panels, G);
    const auto list = prepared(weights_.input, n, lists.a, lists.c, lists.prepared);
    if (packs_input()) {
      multiply<Base::row>(n, list, weights_.input, panels.first, panels.last, weights_.base);
    } else if constexpr (exact) {
      if (n > 0) {
        multiply_once<Base::row>(n, list, weights_.input, call_.in.params.w_ih, once(worker),
                                 panels.first, panels.last, weights_.base);
      }
    }
    return !phases_.norm || normalise_input<save>(worker, share, places, steps, alive);
  }

  // Calls f(t, row) for the worker's alive rows of a block.
  template <class F>
  static PYRNN_INLINE void for_alive(const Share& share, const Places<T>& places, Range steps,
                                     Index alive, F f) {
    for (Index s = 0; s < steps.size(); ++s) {
      const Index t = places.time.at(steps, s);
      alive = places.rows.alive(t, alive);
      const Index last = min(alive, share.rows.last);
      for (Index i = share.rows.first; i < last; ++i) f(t, places.rows.row(i));
    }
  }

  // The column of W_ih that a one-hot vector would select.
  void gather(std::int64_t token, T* sums, Range panels) const {
    if (gathers()) {
      for (Index u = panels.first * W; u < min(H_, panels.last * W); ++u) {
        const Index at = (panel_blocks(sums, u / W, C) - sums) + u;
        for (int g = 0; g < G; ++g) {
          sums[at + g * W] =
              weights_.base[at + g * W] + call_.in.params.w_ih[(g * H_ + u) * I_ + token];
        }
      }
      return;
    }
    weights_.gather(token, sums, grouped(panels, G));
  }

  // Advances the worker's rows and units by one step. False once the call is cancelled.
  template <bool save>
  bool step(Worker& worker, Share& share, const Places<T>& places, Range rows, Index t,
            Index window_first, const RowLists& lists) const {
    const Index n = rows.size();
    zoneout_.draw(call_.in, places, t, rows, share.h_panels, share.panels);
    for (Index i = 0; i < n; ++i) {
      const Index row = places.rows.row(rows.first + i);
      point<save>(lists.row[i], places, t, row);
      if (fused_) {
        if (call_.in.tokens == nullptr) lists.a[i] = call_.in.x + places.index(t, row) * I_;
      } else {
        lists.c[i] = window_ + (window_first + row) * sums_size();
      }
    }
    if constexpr (Cell::phases == 1) {
      if (fused_ || phases_.any()) {
        return structured_step<save>(worker, share, places, rows, t, lists);
      }
    }
    return for_phases<Cell>([&](auto phase_constant) {
      constexpr int phase = decltype(phase_constant)::value;
      for (Index i = 0; i < n; ++i) {
        lists.a[i] = phase > 0 ? lists.row[i].reset_h : lists.row[i].operand;
      }
      if (!add_hidden<phase, save>(worker, share, n, t & 1, lists, lists.c)) return false;
      // The next product reads what every worker wrote.
      if (!worker.proceed(cost_of_step_)) return false;
      if (plan_.by_rows) return true;
      if (!worker.arrive()) return false;
      share.follow<T>(plan_, places.rows, H_, P_, worker);
      return true;
    });
  }

  // Whether the worker writes what there is once for each of its rows.
  bool writes_rows(const Worker& worker) const { return plan_.by_rows || worker.index == 0; }

  template <bool save>
  bool normalise_input(Worker& worker, Share& share, const Places<T>& places, Range steps,
                       Index alive) const;

  template <bool save>
  bool add_sums(Worker& worker, Share& share, const Places<T>& places, Range rows, Index t,
                const RowLists& lists) const;

  // A step with the phases of structure.hpp, or with both products at once.
  template <bool save>
  bool structured_step(Worker& worker, Share& share, const Places<T>& places, Range rows, Index t,
                       const RowLists& lists) const;

  // Whether W_hh h adds to nothing, and its product need not be told.
  bool starts_at_zero() const { return exact && packs() && phases_.norm; }

  // sums += W_hh h, then the pointwise part, unless other phases come first. Reduced precision waits for all
  // other workers' units.
  template <int phase, bool save>
  bool add_hidden(Worker& worker, const Share& share, Index n, bool back, const RowLists& lists,
                  T* const* sums) const;

  // W_ih x and W_hh h of a few rows and units, and their pointwise part while the sums are in L1.
  template <bool save>
  void fused_step(const Share& share, const Places<T>& places, Range rows, Index t,
                  const RowLists& lists) const;

  // The same in reduced precision: rows are prepared once a step, and all of them pass over the same few panels.
  void fused_step_reduced(const Share& share, Index n, const RowLists& lists) const;

  // The lines that the pointwise part writes come in while the products run.
  template <bool save>
  static void expect_writes(const StepRow<T>& row, Range units);

  // In place and field by field, here and on the way back: point in step.hpp says why.
  template <bool save>
  PYRNN_INLINE void point(StepRow<T>& to, const Places<T>& places, Index t, Index row) const;

  // What a variant needs. While some workers read what W_hh sees of h_{t-1}, or a full peephole of c_{t-1},
  // others write those of step t.
  template <bool save>
  void choose(StepRow<T>& to, const Places<T>& places, Index t, Index row) const;

  template <bool save>
  void finish(const Share& share, const Places<T>& places) const;

  const Forward<T>& call_;
  const Index T_, B_, I_, H_, P_;
  const Structure<Cell, T> phases_;  // which there are; packed they are in weights_
  const Plan plan_;
  const bool fused_;  // W_ih x step by step beside W_hh h, not for a block of steps before
  const Index chunk_;
  const double cost_of_step_;
  const Pointwise<T>& pointwise_;
  Index block_;   // steps between two looks at the other calls, or whose W_ih x is computed at once
  Index stored_;  // steps whose sums are stored
  Index fused_panels_;
  bool far_;   // whether more weights pass through L2 than it holds
  bool tall_;  // whether many rows pass over the units of one panel, not six over those of a few
  Walk walks_[Cell::phases];

  Weights<Cell, T, Operand> weights_;
  T* once_ = nullptr;     // [threads, panels_at_once, max(I, P), W]
  T* window_ = nullptr;   // [block, B, panel, C, W] sums
  T* reset_h_ = nullptr;  // [B, H]
  // With layer norm W_ih x and W_hh h, without anything added: [block, B, panel, C, W], and of even and of
  // odd steps [B, panel, C, W].
  T* raw_input_ = nullptr;
  T* raw_hidden_[2] = {};
  // [B, H] each, with a full peephole c of even and of odd steps where there is no tape, and c~.
  T* cells_[2] = {};
  T* fresh_ = nullptr;
  T* u_ = nullptr;  // [B, H] with a projection
  RecurrentMask<T> mask_;
  ZoneoutMasks<T> zoneout_;
  T* masked_h_[3] = {};  // [B, P] each, with a mask: of h0, of even and of odd steps
  RowLists lists_{};     // [block, B] each, by units for each thread
  Index prepared_words_ = 0;
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
