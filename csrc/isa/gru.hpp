// GRU: r, z = sigmoid(a), h_t = (1 - z) n + z h_{t-1}                             (Cho et al. 2014)
//   reset after:   n = tanh(W_in x + b_in + r q), q = W_hn h_{t-1} + b_hn; q is a fourth block of sums
//   reset before:  n = tanh(W_in x + b_in + W_hn (r h_{t-1}) + b_hn), in a second phase
#pragma once

#include "cell.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class T>
PYRNN_INLINE Vec<T> gru_blend(Vec<T> z, Vec<T> n, Vec<T> h_prev) {
  return z * (h_prev - n) + n;
}

struct Gru : TapedHidden {
  static constexpr const char* name = "gru";
  static constexpr int gates = 3, columns = 4, phases = 1, stages = 2;
  static constexpr bool has_c = false, tapes_h = true, splits = true;
  static constexpr Segment segments[] = {{0, 2, 0, 0}, {2, 1, 3, 0}};

  template <int phase, int stage, bool save, class T, class Rule, class At>
  static PYRNN_INLINE void pointwise(const Rule& rule, const At& at, const StepRow<T>& row,
                                     T* sums) {
    constexpr int W = panel_width<T>;
    if constexpr (stage == 0) {
      const Vec<T> a_r = at.load(sums), a_z = at.load(sums + W);
      const Vec<T> r = rule.gate(a_r), z = rule.gate(a_z);
      const Vec<T> q = at.load(sums + 3 * W);
      at.store(sums + W, z);
      at.store(sums + 2 * W, r * q + at.load(sums + 2 * W));
      if constexpr (save) {
        at.store(row.gates, rule.taped_gate(a_r, r));
        at.store(row.gates + row.H, rule.taped_gate(a_z, z));
        at.store(row.gates + 3 * row.H, q);
      }
    } else {
      const Vec<T> z = at.load(sums + W), a_n = at.load(sums + 2 * W);
      const Vec<T> n = rule.candidate(a_n);
      if constexpr (save) at.store(row.gates + 2 * row.H, rule.taped_candidate(a_n, n));
      rule.template settle<save>(at, row, gru_blend<T>(z, n, at.load(row.h_prev)));
    }
  }

  template <int phase, class T, class Rule, class At>
  static PYRNN_INLINE void pointwise_backward(const Rule& rule, const At& at, const GradRow<T>& row,
                                              T* da_x, T* da_h) {
    constexpr int W = panel_width<T>;
    const Opened<T> r = rule.open_gate(at.load(row.gates));
    const Opened<T> z = rule.open_gate(at.load(row.gates + row.H));
    const Opened<T> n = rule.open_candidate(at.load(row.gates + 2 * row.H));
    const Vec<T> q = at.load(row.gates + 3 * row.H);
    const Unsettled<T> dh = rule.unsettle(at, row);
    const Vec<T> da_n = dh.fresh * (splat(T(1)) - z.value) * n.slope;
    const Vec<T> da_r = da_n * q * r.slope;
    const Vec<T> da_z = dh.fresh * (at.load(row.h_prev) - n.value) * z.slope;
    for (T* const da : {da_x, da_h}) {
      at.store(da, da_r);
      at.store(da + W, da_z);
    }
    at.store(da_x + 2 * W, da_n);
    at.store(da_h + 2 * W, da_n * r.value);
    at.store(row.dh, rule.with_kept(dh.fresh * z.value, dh.kept));
  }
};

struct GruResetBefore : GatedHidden {
  static constexpr const char* name = "gru_reset_before";
  static constexpr int gates = 3, columns = 3, phases = 2, stages = 1;
  static constexpr bool has_c = false, tapes_h = true, splits = true;
  static constexpr Segment segments[] = {{0, 2, 0, 0}, {2, 1, 2, 1}};

  template <int phase, int stage, bool save, class T, class Rule, class At>
  static PYRNN_INLINE void pointwise(const Rule& rule, const At& at, const StepRow<T>& row,
                                     T* sums) {
    constexpr int W = panel_width<T>;
    if constexpr (phase == 0) {
      const Vec<T> a_r = at.load(sums);
      const Vec<T> r = rule.gate(a_r);
      at.store(row.reset_h, r * at.load(row.operand));
      if constexpr (save) at.store(row.gates, rule.taped_gate(a_r, r));
    } else {
      const Vec<T> a_z = at.load(sums + W), a_n = at.load(sums + 2 * W);
      const Vec<T> z = rule.gate(a_z), n = rule.candidate(a_n);
      if constexpr (save) {
        at.store(row.gates + row.H, rule.taped_gate(a_z, z));
        at.store(row.gates + 2 * row.H, rule.taped_candidate(a_n, n));
      }
      rule.template settle<save>(at, row, gru_blend<T>(z, n, at.load(row.h_prev)));
    }
  }

  template <int phase, class T, class Rule, class At>
  static PYRNN_INLINE void pointwise_backward(const Rule& rule, const At& at, const GradRow<T>& row,
                                              T* da_x, T* da_h) {
    constexpr int W = panel_width<T>;
    const Vec<T> h_prev = at.load(row.h_prev);
    const auto store_both = [&](int gate, T* hidden, Vec<T> da) {
      at.store(da_x + gate * W, da);
      at.store(hidden, da);
    };
    if constexpr (phase == 1) {
      const Opened<T> z = rule.open_gate(at.load(row.gates + row.H));
      const Opened<T> n = rule.open_candidate(at.load(row.gates + 2 * row.H));
      const Unsettled<T> dh = rule.unsettle(at, row);
      at.store(da_x + W, dh.fresh * (h_prev - n.value) * z.slope);
      store_both(2, da_h, dh.fresh * (splat(T(1)) - z.value) * n.slope);
      at.store(row.dh, rule.with_kept(dh.fresh * z.value, dh.kept));
    } else {
      const Opened<T> r = rule.open_gate(at.load(row.gates));
      const Vec<T> d_reset_h = at.load(row.d_reset_h);
      store_both(0, da_h, d_reset_h * rule.masked(at, row.mask, h_prev) * r.slope);
      at.store(da_h + W, at.load(da_x + W));
      at.store(row.dh, rule.masked(at, row.mask, d_reset_h * r.value) + at.load(row.dh));
    }
  }
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
