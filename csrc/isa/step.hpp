// One step of a stack of layers from packed weights, as a stream takes it. The products and the pointwise
// part are those of the forward scan; what is left out is all that a call of one step does not need.
#pragma once

#include <new>

#include "both.hpp"
#include "walk.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Cell, class T, class Operand>
class StackStep {
 public:
  // `part` is that of the largest I.
  static std::size_t bytes(Index B, int count, const Part<T>& part) {
    Carver measure;
    measure.take<StackStep>(1);
    StackStep(count, measure, B, part);
    return measure.used();
  }

  // What is the same at every step stands at the start of the scratch.
  static void prepare(const Step<T>* layers, int count, void* scratch) {
    Carver carver(scratch);
    StackStep* const own = carver.take<StackStep>(1);
    const Step<T>& first = layers[0];
    Index I = 0;
    for (int i = 0; i < count; ++i) I = max(I, layers[i].I);
    StackStep& step = *new (own) StackStep(
        count, carver, first.B, {I, first.H, first.P, {}, first.variant, first.precision});
    for (int i = 0; i < count; ++i) {
      const Step<T>& layer = layers[i];
      new (step.weights_ + i) Packed(
          Packed::of(layer.packed, layer.I, layer.H, layer.P, layer.variant, layer.precision));
    }
    step.work_of_row_ = (G * first.H * (first.I + first.P) + step.weights_->structure.work()) /
                        speed_of(first.precision);
  }

  static void run(const Step<T>* layers, void* scratch, Team& team) {
    StackStep& step = *static_cast<StackStep*>(scratch);
    step.layers_ = layers;
    const Index B = layers[0].B, weights = step.work_of_row_;
    if (B == 0) return;
    const int most = max_threads(weights * B);
    const Plan plan = most == 1 ? Plan{1, false}
                                : Plan::of({weights, B, 1, panels_of<T>(layers[0].H),
                                            step.weights_->structure.meetings()},
                                           {most});
    if (plan.threads == 1) {
      Worker alone = team.alone();
      return step.work(alone);
    }
    const auto body = [](void* context, Worker& worker) {
      static_cast<const StackStep*>(context)->work(worker);
    };
    Run what;
    what.threads = plan.threads;
    what.work = double(weights) * double(B) * step.count_;
    team.run(what, body, &step);
  }

 private:
  static constexpr int G = Cell::gates, C = Cell::columns;
  static constexpr Index W = panel_width<T>;
  static constexpr bool exact = std::is_same_v<Operand, Panels<T>>;
  // Row pointers stand on the stack of each thread; weights are read once for this many rows.
  static constexpr Index rows_at_once = 64;
  // The products of a step go block by block of units, a tile of one row each, so that they can be walked
  // backwards. The pointwise part follows for all units: of few, its chains of activations would not overlap.
  static constexpr Index panels_in_block = units_of_a_tile(G);

  // OpenMP is not asked where one thread is all that is worth it.
  static int max_threads(Index work) {
    if (work < 100'000) return 1;
    return exact ? Team::max_threads() : int(min(most_workers, Team::max_threads()));
  }

  // Every worker prepares the rows itself, in room for this many workers.
  static constexpr int most_workers = 16;

  using Packed = Weights<Cell, T, Operand>;

  StackStep(int count, Carver& carver, Index B, const Part<T>& part) : count_(count) {
    const Index H = part.H;
    Operand input{}, hidden{};
    start_matrix(input, part.precision);
    start_matrix(hidden, part.precision);
    input.depth = part.I;
    hidden.depth = part.P;
    x_words_ = min(B, rows_at_once) * prepared_words(input);
    h_words_ = min(B, rows_at_once) * prepared_words(hidden);
    weights_ = carver.take<Packed>(count);
    prepared_ = carver.take<std::int32_t>(most_workers * (x_words_ + h_words_));
    sums_ = carver.take<T>(B * step_of_sums<Cell, T>(H));
    reset_h_ = carver.take<T>(Cell::phases > 1 ? B * H : 0);
    const Structure<Cell, T> phases(H, part.P, part.variant);
    for (T*& raw : raw_) {
      raw = phases.norm ? carver.take<T>(B * step_of_sums<Cell, T>(H)) : nullptr;
    }
    fresh_ = phases.full ? carver.take<T>(B * H) : nullptr;
    u_ = phases.projects ? carver.take<T>(B * H) : nullptr;
  }

  void work(Worker& worker) const {
    advance_layers(worker);
    if constexpr (!exact) leave_products(layers_[0].precision);
  }

  void advance_layers(Worker& worker) const {
    for (int i = 0; i < count_; ++i) {
      const Step<T>& layer = layers_[i];
      const Packed& weights = weights_[i];
      const Share share = Share::by_units<T>(layer.B, layer.H, layer.P, worker);
      const bool last_layer = i + 1 == count_;
      const bool go_on = for_phases<Cell>([&](auto phase_constant) {
        constexpr int phase = decltype(phase_constant)::value;
        for_rows(layer.B, [&](Range rows) { advance<phase>(worker, layer, weights, share, rows); });
        const double work = double(G * layer.H) * double(layer.I + layer.P) * double(layer.B);
        if (!worker.proceed(work)) return false;
        if constexpr (Cell::phases == 1) {
          if (!structured(worker, layer, weights, share)) return false;
        }
        // The next phase, or layer, reads what every worker wrote.
        return (phase + 1 == Cell::phases && last_layer) || worker.barrier();
      });
      if (!go_on) return;
    }
  }

  // Calls f(rows) for a few rows after the other.
  template <class F>
  static PYRNN_INLINE void for_rows(Index B, F f) {
    for (Index row = 0; row < B; row += rows_at_once) f(Range{row, min(B, row + rows_at_once)});
  }

  T* sums_at(T* sums, Index row, Index H) const { return sums + row * step_of_sums<Cell, T>(H); }

  // The phases of structure.hpp, each of which reads what every worker wrote.
  bool structured(Worker& worker, const Step<T>& layer, const Packed& weights,
                  const Share& share) const {
    const Structure<Cell, T>& phases = weights.structure;
    const Variant<T>& variant = layer.variant;
    const Index H = layer.H;
    const T* a[rows_at_once];
    T* sums[rows_at_once];
    StepRow<T> at[rows_at_once];
    const auto enter = [&](Range rows) {
      for (Index i = 0; i < rows.size(); ++i) {
        sums[i] = sums_at(sums_, rows.first + i, H);
        point(at[i], layer, rows.first + i);
      }
      return rows.size();
    };
    if (phases.norm && !worker.barrier()) return false;
    for (int stage = 0; phases.parts() && stage < Cell::stages; ++stage) {
      if (Cell::has_c && stage == 1 && !worker.barrier()) return false;
      for_rows(layer.B, [&](Range rows) {
        const Index n = enter(rows);
        if (stage == 0) {
          for (Index i = 0; phases.norm && i < n; ++i) {
            const Index row = rows.first + i;
            phases.add_input(sums_at(raw_[0], row, H), share.panels, sums[i], nullptr);
            phases.add_hidden(sums_at(raw_[1], row, H), share.panels, sums[i], nullptr);
          }
          phases.add_cell_peepholes(n, at, a, sums, share.panels);
        } else {
          phases.between_stages(variant, n, at, a, sums, share.panels);
        }
        apply_stage<0, false>(pointwise_of<Cell>(variant), stage, variant, n, at, share.panels,
                              sums);
      });
    }
    if (!phases.projects) return true;
    if (!worker.barrier()) return false;
    for_rows(layer.B, [&](Range rows) {
      const Index n = enter(rows);
      phases.project(pointwise_of<Cell>(variant), variant, n, at, a, sums, share.h_panels);
    });
    return true;
  }

  // The products, and the pointwise part unless other phases come first.
  template <int phase>
  void advance(const Worker& worker, const Step<T>& layer, const Packed& weights,
               const Share& share, Range rows) const {
    const T* x[rows_at_once];
    const T* h[rows_at_once];
    T* sums[rows_at_once];
    T* hidden_sums[rows_at_once];
    StepRow<T> at[rows_at_once];
    const Structure<Cell, T>& phases = weights.structure;
    const Index H = layer.H, n = rows.size();
    for (Index i = 0; i < n; ++i) {
      const Index row = rows.first + i;
      sums[i] = sums_at(phases.norm ? raw_[0] : sums_, row, H);
      hidden_sums[i] = sums[i];
      point(at[i], layer, row);
      h[i] = phase > 0 ? reset_h_ + row * H : layer.h_prev + row * layer.P;
      if constexpr (phase == 0) {
        if (phases.norm) {
          hidden_sums[i] = sums_at(raw_[1], row, H);
          fill(hidden_sums[i], {share.panels.first * C * W, share.panels.last * C * W}, T(0));
        }
        if (layer.tokens != nullptr) {
          weights.start_sums(sums[i], share.panels);
          weights.gather(layer.tokens[row], sums[i], grouped(share.panels, G));
        } else {
          x[i] = layer.x + row * layer.I;
        }
      }
    }
    constexpr PhaseGates<Cell> phase_gates(phase);
    std::int32_t* const own_words = prepared_ + worker.index * (x_words_ + h_words_);
    const Index dense = phase == 0 && layer.tokens == nullptr ? n : 0;
    const auto inputs = prepared(weights.input, dense, x, sums, own_words);
    const auto states = prepared(weights.hidden[phase], n, h, hidden_sums, own_words + x_words_);
    for_blocks(share.panels, panels_in_block, layer.odd, [&](Range panels) {
      if (dense > 0) {
        if (phases.norm) {
          const Range own = grouped(panels, G);
          multiply<Base::row>(n, inputs, weights.input, own.first, own.last, weights.base);
          multiply<Base::self>(n, states, weights.hidden[phase], own.first, own.last);
        } else {
          multiply_both(n, inputs, states, weights, panels);
        }
      } else {
        const Range own = grouped(panels, phase_gates.count);
        multiply<Base::self>(n, states, weights.hidden[phase], own.first, own.last);
      }
    });
    if (phases.parts()) return;
    apply<Cell, phase, false, T>(pointwise_of<Cell>(layer.variant), layer.variant, n, at,
                                 share.panels, sums);
  }

  // Field by field: a copy would read them together while they are still on their way to memory one by
  // one, and would wait for all that is written before them.
  PYRNN_INLINE void point(StepRow<T>& to, const Step<T>& layer, Index row) const {
    const Index at = row * layer.H, of_h = row * layer.P;
    to = {};
    to.H = layer.H;
    to.h_prev = layer.h_prev + of_h;
    to.operand = to.h_prev;
    to.h = layer.h + of_h;
    if (fresh_ != nullptr) to.fresh = fresh_ + at;
    to.u = u_ != nullptr ? u_ + at : to.h;
    if constexpr (Cell::has_c) {
      to.c_prev = layer.c_prev + at;
      to.c = layer.c + at;
    }
    if constexpr (Cell::phases > 1) to.reset_h = reset_h_ + at;
  }

  const Step<T>* layers_ = nullptr;  // of this step
  int count_;
  Index work_of_row_ = 0;      // of the first layer
  Packed* weights_ = nullptr;  // [count]
  T* sums_ = nullptr;          // [B, panel, C, W]
  T* reset_h_ = nullptr;       // [B, H]
  T* raw_[2] = {};             // W_ih x and W_hh h as sums_, with layer norm
  T* fresh_ = nullptr;         // [B, H] c~, with a full peephole
  T* u_ = nullptr;             // [B, H], with a projection
  Index x_words_ = 0, h_words_ = 0;
  std::int32_t* prepared_ = nullptr;  // [most_workers, x_words_ + h_words_]
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
