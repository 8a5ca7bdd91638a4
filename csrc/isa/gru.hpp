// GRU: r, z = sigmoid(a), h_t = (1 - z) n + z h_{t-1}                             (Cho et al. 2014)
//   reset after:   n = tanh(W_in x + b_in + r q), q = W_hn h_{t-1} + b_hn; q is a fourth block of gates
//   reset before:  n = tanh(W_in x + b_in + W_hn (r h_{t-1}) + b_hn), in a second phase
#pragma once

#include "cell.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class T>
PYRNN_INLINE Vec<T> gru_blend(Vec<T> z, Vec<T> n, Vec<T> h_prev) {
  return z * (h_prev - n) + n;
}

struct Gru {
  static constexpr const char* name = "gru";
  static constexpr int gates = 3, columns = 4, phases = 1, stages = 2;
  static constexpr bool has_c = false, tapes_h = true;
  static constexpr Segment segments[] = {{0, 2, 0, 0}, {2, 1, 3, 0}};

  template <int phase, int stage, bool save, class T, class At>
  static PYRNN_INLINE void pointwise(const At& at, const StepRow<T>& row) {
    if constexpr (stage == 0) {
      const Vec<T> r = sigmoid<T>(at.load(row.gates));
      const Vec<T> z = sigmoid<T>(at.load(row.gates + row.H));
      const Vec<T> q = at.load(row.gates + 3 * row.H);
      at.store(row.gates + row.H, z);
      at.store(row.gates + 2 * row.H, r * q + at.load(row.gates + 2 * row.H));
      if constexpr (save) at.store(row.gates, r);
    } else {
      const Vec<T> z = at.load(row.gates + row.H);
      const Vec<T> n = tanh<T>(at.load(row.gates + 2 * row.H));
      const Vec<T> h = gru_blend<T>(z, n, at.load(row.h_prev));
      at.store(row.h, h);
      if constexpr (save) {
        at.store(row.gates + 2 * row.H, n);
        at.store(row.tape_h, h);
      }
    }
  }

  template <int phase, class T, class At>
  static PYRNN_INLINE void pointwise_backward(const At& at, const GradRow<T>& row) {
    const Vec<T> r = at.load(row.gates), z = at.load(row.gates + row.H);
    const Vec<T> n = at.load(row.gates + 2 * row.H), q = at.load(row.gates + 3 * row.H);
    const Vec<T> dh = incoming<T>(at, row);
    const Vec<T> dn = dh * (splat(T(1)) - z) * tanh_slope<T>(n);
    at.store(row.dgates, dn * q * sigmoid_slope<T>(r));
    at.store(row.dgates + row.H, dh * (at.load(row.h_prev) - n) * sigmoid_slope<T>(z));
    at.store(row.dgates + 2 * row.H, dn);
    at.store(row.dgates + 3 * row.H, dn * r);
    at.store(row.dh, dh * z);
  }

  template <class T, class At>
  static PYRNN_INLINE Vec<T> hidden(const At& at, const TapeRow<T>& row) {
    return at.load(row.h);
  }
};

struct GruResetBefore {
  static constexpr const char* name = "gru_reset_before";
  static constexpr int gates = 3, columns = 3, phases = 2, stages = 1;
  static constexpr bool has_c = false, tapes_h = true;
  static constexpr Segment segments[] = {{0, 2, 0, 0}, {2, 1, 2, 1}};

  template <int phase, int stage, bool save, class T, class At>
  static PYRNN_INLINE void pointwise(const At& at, const StepRow<T>& row) {
    if constexpr (phase == 0) {
      const Vec<T> r = sigmoid<T>(at.load(row.gates));
      at.store(row.reset_h, r * at.load(row.h_prev));
      if constexpr (save) at.store(row.gates, r);
    } else {
      const Vec<T> z = sigmoid<T>(at.load(row.gates + row.H));
      const Vec<T> n = tanh<T>(at.load(row.gates + 2 * row.H));
      const Vec<T> h = gru_blend<T>(z, n, at.load(row.h_prev));
      at.store(row.h, h);
      if constexpr (save) {
        at.store(row.gates + row.H, z);
        at.store(row.gates + 2 * row.H, n);
        at.store(row.tape_h, h);
      }
    }
  }

  template <int phase, class T, class At>
  static PYRNN_INLINE void pointwise_backward(const At& at, const GradRow<T>& row) {
    const Vec<T> h_prev = at.load(row.h_prev);
    if constexpr (phase == 1) {
      const Vec<T> z = at.load(row.gates + row.H), n = at.load(row.gates + 2 * row.H);
      const Vec<T> dh = incoming<T>(at, row);
      at.store(row.dgates + row.H, dh * (h_prev - n) * sigmoid_slope<T>(z));
      at.store(row.dgates + 2 * row.H, dh * (splat(T(1)) - z) * tanh_slope<T>(n));
      at.store(row.dh, dh * z);
    } else {
      const Vec<T> r = at.load(row.gates), d_reset_h = at.load(row.d_reset_h);
      at.store(row.dgates, d_reset_h * h_prev * sigmoid_slope<T>(r));
      at.store(row.dh, d_reset_h * r + at.load(row.dh));
    }
  }

  template <class T, class At>
  static PYRNN_INLINE Vec<T> hidden(const At& at, const TapeRow<T>& row) {
    return at.load(row.h);
  }

  // W_hn multiplies r h_{t-1}.
  template <class T, class At>
  static PYRNN_INLINE Vec<T> operand(const At& at, const T* gates, Vec<T> h_prev) {
    return at.load(gates) * h_prev;
  }
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
