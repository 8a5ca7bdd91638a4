// Elman: h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh), phi tanh or relu (Elman 1990).
// The tape's gates are h_t.
#pragma once

#include "cell.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

struct Tanh {
  static constexpr const char* name = "rnn_tanh";
  template <class T>
  static PYRNN_INLINE Vec<T> value(Vec<T> a) {
    return tanh<T>(a);
  }
  template <class T>
  static PYRNN_INLINE Vec<T> backward(Vec<T> h, Vec<T> dh) {
    return dh * tanh_slope<T>(h);
  }
};

struct Relu {
  static constexpr const char* name = "rnn_relu";
  template <class T>
  static PYRNN_INLINE Vec<T> value(Vec<T> a) {
    return select<T>(a < splat(T(0)), splat(T(0)), a);  // NaN stays
  }
  template <class T>
  static PYRNN_INLINE Vec<T> backward(Vec<T> h, Vec<T> dh) {
    return select<T>(h > splat(T(0)), dh, splat(T(0)));
  }
};

template <class Phi>
struct Elman {
  static constexpr const char* name = Phi::name;
  static constexpr int gates = 1, columns = 1, phases = 1, stages = 1;
  static constexpr bool has_c = false, tapes_h = false, splits = false;
  static constexpr Segment segments[] = {{0, 1, 0, 0}};

  template <int phase, int stage, bool save, class T, class At>
  static PYRNN_INLINE void pointwise(const At& at, const StepRow<T>& row, T* sums) {
    const Vec<T> h = Phi::template value<T>(at.load(sums));
    at.store(row.h, h);
    if constexpr (save) at.store(row.gates, h);
  }

  template <int phase, class T, class At>
  static PYRNN_INLINE void pointwise_backward(const At& at, const GradRow<T>& row, T* da, T*) {
    const Vec<T> dh = incoming<T>(at, row);
    at.store(da, Phi::template backward<T>(at.load(row.gates), dh));
    at.store(row.dh, Vec<T>{});
  }

  template <class T, class At>
  static PYRNN_INLINE Vec<T> hidden(const At& at, const TapeRow<T>& row) {
    return at.load(row.gates);
  }
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
