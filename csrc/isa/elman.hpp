// Elman: h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), phi tanh, relu or another (Elman 1990).
// The tape's gates are h_t, or the sums.
#pragma once

#include "cell.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

struct Elman {
  static constexpr const char* name = "rnn";
  static constexpr int gates = 1, columns = 1, phases = 1, stages = 1;
  static constexpr bool has_c = false, tapes_h = false, splits = false;
  static constexpr Segment segments[] = {{0, 1, 0, 0}};

  template <int phase, int stage, bool save, class T, class Rule, class At>
  static PYRNN_INLINE void pointwise(const Rule& rule, const At& at, const StepRow<T>& row,
                                     T* sums) {
    const Vec<T> a = at.load(sums);
    const Vec<T> h = rule.candidate(a);
    if constexpr (save) at.store(row.gates, rule.taped_candidate(a, h));
    rule.template settle<false>(at, row, h);
  }

  template <int phase, class T, class Rule, class At>
  static PYRNN_INLINE void pointwise_backward(const Rule& rule, const At& at, const GradRow<T>& row,
                                              T* da, T*) {
    const Unsettled<T> dh = rule.unsettle(at, row);
    at.store(da, rule.through_candidate(at.load(row.gates), dh.fresh));
    at.store(row.dh, dh.kept);
  }

  template <class T, class Rule, class At>
  static PYRNN_INLINE Vec<T> hidden(const Rule&, const At& at, const TapeRow<T>& row) {
    return at.load(row.gates);
  }
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
