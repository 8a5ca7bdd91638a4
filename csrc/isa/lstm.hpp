// LSTM: i, f, o = sigmoid(a), g = tanh(a), a = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh
//       c_t = f c_{t-1} + i g,  h_t = o tanh(c_t)        (Hochreiter & Schmidhuber 1997, Gers et al. 2000)
// Backward recomputes tanh(c_t) and h_t instead of storing them.
#pragma once

#include "cell.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

struct Lstm {
  static constexpr const char* name = "lstm";
  static constexpr int gates = 4, columns = 4, phases = 1, stages = 2;
  static constexpr bool has_c = true, tapes_h = false, splits = false;
  static constexpr Segment segments[] = {{0, 4, 0, 0}};

  template <int phase, int stage, bool save, class T, class At>
  static PYRNN_INLINE void pointwise(const At& at, const StepRow<T>& row, T* sums) {
    constexpr int W = panel_width<T>;
    if constexpr (stage == 0) {
      const Vec<T> i = sigmoid<T>(at.load(sums));
      const Vec<T> f = sigmoid<T>(at.load(sums + W));
      const Vec<T> g = tanh<T>(at.load(sums + 2 * W));
      at.store(row.c, f * at.load(row.c_prev) + rounded(i * g));
      if constexpr (save) {
        at.store(row.gates, i);
        at.store(row.gates + row.H, f);
        at.store(row.gates + 2 * row.H, g);
      }
    } else {
      const Vec<T> o = sigmoid<T>(at.load(sums + 3 * W));
      at.store(row.h, o * tanh<T>(at.load(row.c)));
      if constexpr (save) at.store(row.gates + 3 * row.H, o);
    }
  }

  template <int phase, class T, class At>
  static PYRNN_INLINE void pointwise_backward(const At& at, const GradRow<T>& row, T* da, T*) {
    constexpr int W = panel_width<T>;
    const Vec<T> i = at.load(row.gates), f = at.load(row.gates + row.H);
    const Vec<T> g = at.load(row.gates + 2 * row.H), o = at.load(row.gates + 3 * row.H);
    const Vec<T> tanh_c = tanh<T>(at.load(row.c));
    const Vec<T> dh = incoming<T>(at, row);
    const Vec<T> dc = dh * rounded(o * tanh_slope<T>(tanh_c)) + at.load(row.dc);
    at.store(da, dc * g * sigmoid_slope<T>(i));
    at.store(da + W, dc * at.load(row.c_prev) * sigmoid_slope<T>(f));
    at.store(da + 2 * W, dc * i * tanh_slope<T>(g));
    at.store(da + 3 * W, dh * tanh_c * sigmoid_slope<T>(o));
    at.store(row.dc, dc * f);
    at.store(row.dh, Vec<T>{});
  }

  template <class T, class At>
  static PYRNN_INLINE Vec<T> hidden(const At& at, const TapeRow<T>& row) {
    return at.load(row.gates + 3 * row.H) * tanh<T>(at.load(row.c));
  }
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
