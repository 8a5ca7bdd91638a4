// Minimal gated unit: f = sigmoid(a_f), n = tanh(W_n x + b_n + W_hn (f h_{t-1}) + b_hn),
//                     h_t = (1 - f) h_{t-1} + f n                              (Zhou et al. 2016)
#pragma once

#include "cell.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

struct Mgu : GatedHidden {
  static constexpr const char* name = "mgu";
  static constexpr int gates = 2, columns = 2, phases = 2, stages = 1;
  static constexpr bool has_c = false, tapes_h = true, splits = true;
  static constexpr Segment segments[] = {{0, 1, 0, 0}, {1, 1, 1, 1}};

  template <int phase, int stage, bool save, class T, class Rule, class At>
  static PYRNN_INLINE void pointwise(const Rule& rule, const At& at, const StepRow<T>& row,
                                     T* sums) {
    constexpr int W = panel_width<T>;
    const Vec<T> a = at.load(sums + phase * W);
    if constexpr (phase == 0) {
      const Vec<T> f = rule.gate(a);
      at.store(sums, f);
      at.store(row.reset_h, f * at.load(row.operand));
      if constexpr (save) at.store(row.gates, rule.taped_gate(a, f));
    } else {
      const Vec<T> f = at.load(sums), n = rule.candidate(a), h_prev = at.load(row.h_prev);
      if constexpr (save) at.store(row.gates + row.H, rule.taped_candidate(a, n));
      rule.template settle<save>(at, row, f * (n - h_prev) + h_prev);
    }
  }

  template <int phase, class T, class Rule, class At>
  static PYRNN_INLINE void pointwise_backward(const Rule& rule, const At& at, const GradRow<T>& row,
                                              T* da_x, T* da_h) {
    constexpr int W = panel_width<T>;
    const Opened<T> f = rule.open_gate(at.load(row.gates));
    const Vec<T> h_prev = at.load(row.h_prev);
    if constexpr (phase == 1) {
      const Opened<T> n = rule.open_candidate(at.load(row.gates + row.H));
      const Unsettled<T> dh = rule.unsettle(at, row);
      const Vec<T> da_n = dh.fresh * f.value * n.slope;
      at.store(da_x, dh.fresh * (n.value - h_prev));  // df, as far as the blend goes
      at.store(da_x + W, da_n);
      at.store(da_h, da_n);
      at.store(row.dh, rule.with_kept(dh.fresh * (splat(T(1)) - f.value), dh.kept));
    } else {
      const Vec<T> d = at.load(row.d_reset_h);
      const Vec<T> da_f = (d * rule.masked(at, row.mask, h_prev) + at.load(da_x)) * f.slope;
      at.store(da_x, da_f);
      at.store(da_h, da_f);
      at.store(row.dh, rule.masked(at, row.mask, d * f.value) + at.load(row.dh));
    }
  }
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
