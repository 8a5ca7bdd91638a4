// One step of a stack of layers from packed weights, as a stream takes it. The products and the pointwise
// part are those of the forward scan; what is left out is all that a call of one step does not need.
#pragma once

#include "both.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Cell, class T, class Operand>
class StackStep {
 public:
  // `I` is the largest of the layers.
  static std::size_t bytes(Index B, Index I, Index H) {
    Carver measure;
    StackStep(nullptr, 0, measure, B, I, H);
    return measure.used();
  }

  static void run(const Step<T>* layers, int count, void* scratch, Team& team) {
    Carver carver(scratch);
    const Index B = layers[0].B, H = layers[0].H;
    Index I = 0;
    for (int i = 0; i < count; ++i) I = max(I, layers[i].I);
    StackStep step(layers, count, carver, B, I, H);
    if (B == 0) return;
    const Index weights = G * H * (layers[0].I + H) / Operand::speed;
    const int most = max_threads(weights * B);
    const Plan plan = most == 1 ? Plan{1, false} : Plan::of(weights, B, 1, panels_of<T>(H), most);
    if (plan.threads == 1) {
      Worker alone = team.alone();
      return step.work(alone);
    }
    const auto body = [](void* context, Worker& worker) {
      static_cast<StackStep*>(context)->work(worker);
    };
    Run what;
    what.threads = plan.threads;
    what.work = double(weights) * double(B) * count;
    team.run(what, body, &step);
  }

 private:
  static constexpr int G = Cell::gates, C = Cell::columns;
  // Row pointers stand on the stack of each thread; weights are read once for this many rows.
  static constexpr Index rows_at_once = 64;
  // The products of a step go block by block of units, a tile of one row each, so that they can be walked
  // backwards. The pointwise part follows for all units: of few, its chains of activations would not overlap.
  static constexpr Index panels_in_block = panels_at_once < G ? 1 : panels_at_once / G;

  // OpenMP is not asked where one thread is all that is worth it.
  static int max_threads(Index work) {
    if (work < 100'000) return 1;
    return Operand::speed == 1 ? Team::max_threads() : int(min(most_workers, Team::max_threads()));
  }

  // Every worker prepares the rows itself, in room for this many workers.
  static constexpr int most_workers = 16;

  StackStep(const Step<T>* layers, int count, Carver& carver, Index B, Index I, Index H)
      : layers_(layers), count_(count) {
    Operand input{}, hidden{};
    input.depth = I;
    hidden.depth = H;
    x_words_ = min(B, rows_at_once) * prepared_words(input);
    h_words_ = min(B, rows_at_once) * prepared_words(hidden);
    prepared_ = carver.take<std::int32_t>(most_workers * (x_words_ + h_words_));
    sums_ = carver.take<T>(B * sums_of_a_row<Cell, T>(H));
    reset_h_ = carver.take<T>(Cell::phases > 1 ? B * H : 0);
  }

  void work(Worker& worker) {
    for (int i = 0; i < count_; ++i) {
      const Step<T>& layer = layers_[i];
      const auto weights = Weights<Cell, T, Operand>::of(layer.packed, layer.I, layer.H);
      const Share share = Share::by_units<T>(layer.B, layer.H, worker);
      const bool go_on = for_phases<Cell>([&](auto phase_constant) {
        constexpr int phase = decltype(phase_constant)::value;
        for (Index row = 0; row < layer.B; row += rows_at_once) {
          advance<phase>(worker, layer, weights, share, {row, min(layer.B, row + rows_at_once)});
        }
        const double work = double(G * layer.H) * double(layer.I + layer.H) * double(layer.B);
        if (!worker.proceed(work)) return false;
        // The next phase, or layer, reads what every worker wrote.
        return (phase + 1 == Cell::phases && i + 1 == count_) || worker.barrier();
      });
      if (!go_on) return;
    }
  }

  template <int phase>
  void advance(const Worker& worker, const Step<T>& layer, const Weights<Cell, T, Operand>& weights,
               const Share& share, Range rows) const {
    const T* x[rows_at_once];
    const T* h[rows_at_once];
    T* sums[rows_at_once];
    StepRow<T> at[rows_at_once];
    const Index H = layer.H, n = rows.size();
    for (Index i = 0; i < n; ++i) {
      const Index row = rows.first + i;
      sums[i] = sums_ + row * sums_of_a_row<Cell, T>(H);
      point(at[i], layer, row);
      h[i] = (phase > 0 ? reset_h_ : layer.h_prev) + row * H;
      if constexpr (phase == 0) {
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
    const auto states = prepared(weights.hidden[phase], n, h, sums, own_words + x_words_);
    const Index blocks = ceil_div(share.panels.size(), panels_in_block);
    for (Index i = 0; i < blocks; ++i) {
      const Index first = share.panels.first + panels_in_block * (layer.odd ? blocks - 1 - i : i);
      const Range panels{first, min(share.panels.last, first + panels_in_block)};
      if (dense > 0) {
        multiply_both(n, inputs, states, weights, panels);
      } else {
        const Range own = grouped(panels, phase_gates.count);
        multiply<Base::self>(n, states, weights.hidden[phase], own.first, own.last);
      }
    }
    apply<Cell, phase, false, T>(pointwise_of<Cell>(layer.variant), layer.variant, n, at,
                                 share.panels, sums);
  }

  // Field by field: a copy would read them together while they are still on their way to memory one by
  // one, and would wait for all that is written before them.
  PYRNN_INLINE void point(StepRow<T>& to, const Step<T>& layer, Index row) const {
    const Index at = row * layer.H;
    to = {};
    to.H = layer.H;
    to.h_prev = layer.h_prev + at;
    to.operand = to.h_prev;
    to.h = layer.h + at;
    if constexpr (Cell::has_c) {
      to.c_prev = layer.c_prev + at;
      to.c = layer.c + at;
    }
    if constexpr (Cell::phases > 1) to.reset_h = reset_h_ + at;
  }

  const Step<T>* layers_;
  int count_;
  T* sums_ = nullptr;     // [B, panel, C, W]
  T* reset_h_ = nullptr;  // [B, H]
  Index x_words_ = 0, h_words_ = 0;
  std::int32_t* prepared_ = nullptr;  // [most_workers, x_words_ + h_words_]
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
