// ONNX's list of activations and their slopes. tanh and sigmoid are those of vecmath.hpp; the others are
// rare: one function for all of them, chosen by a switch, is not inlined anywhere.
#pragma once

#include <cmath>

#include "vecmath.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class T>
PYRNN_INLINE Vec<T> sigmoid_slope(Vec<T> s) {
  return s * (splat(T(1)) - s);
}

template <class T>
PYRNN_INLINE Vec<T> tanh_slope(Vec<T> y) {
  return splat(T(1)) - y * y;
}

template <class T>
PYRNN_INLINE Vec<T> relu(Vec<T> a) {
  return select<T>(a < splat(T(0)), splat(T(0)), a);  // NaN stays
}

template <class T>
PYRNN_INLINE Vec<T> absolute(Vec<T> x) {
  return bit_cast<Vec<T>>(bit_cast<IntVec<T>>(x) & ~bit_cast<IntVec<T>>(splat(T(-0.0))));
}

// x within [-limit, limit]; NaN stays.
template <class T>
PYRNN_INLINE Vec<T> clamped(Vec<T> x, T limit) {
  const Vec<T> high = splat(limit), low = splat(-limit);
  return select<T>(x > high, high, select<T>(x < low, low, x));
}

template <class T>
struct Opened {
  Vec<T> value, slope;
};

template <class T>
__attribute__((noinline)) Opened<T> opened(const Activation<T>& f, Vec<T> x) {
  const Vec<T> zero{}, one = splat(T(1)), alpha = splat(f.alpha), beta = splat(f.beta);
  switch (f.kind) {
    case ActivationKind::tanh: {
      const Vec<T> y = tanh<T>(x);
      return {y, tanh_slope<T>(y)};
    }
    case ActivationKind::sigmoid: {
      const Vec<T> y = sigmoid<T>(x);
      return {y, sigmoid_slope<T>(y)};
    }
    case ActivationKind::relu:
      return {relu<T>(x), select<T>(x > zero, one, zero)};
    case ActivationKind::affine:
      return {alpha * x + beta, alpha};
    case ActivationKind::leaky_relu:
      return {select<T>(x < zero, alpha * x, x), select<T>(x < zero, alpha, one)};
    case ActivationKind::thresholded_relu:
      return {select<T>(x <= alpha, zero, x), select<T>(x > alpha, one, zero)};
    case ActivationKind::scaled_tanh: {
      const Vec<T> y = tanh<T>(beta * x);
      return {alpha * y, alpha * beta * tanh_slope<T>(y)};
    }
    case ActivationKind::hard_sigmoid: {
      const Vec<T> line = alpha * x + beta;
      const Vec<T> y = select<T>(line > one, one, relu<T>(line));
      return {y, select<T>((line > zero) & (line < one), alpha, zero)};
    }
    case ActivationKind::elu: {
      const Vec<T> lowest = splat(Exp<T>::lowest), below = select<T>(x < zero, x, zero);
      const Reduced<T> e = reduce<1, T>(select<T>(below < lowest, lowest, below), Exp<T>::shift);
      const Vec<T> unshift = splat(Exp<T>::unshift);
      const Vec<T> less_one = (e.scale * unshift - one) + e.scale * unshift * e.expm1;
      return {select<T>(x < zero, alpha * less_one, x),
              select<T>(x < zero, alpha * less_one + alpha, one)};
    }
    case ActivationKind::softsign: {
      const Vec<T> d = one + absolute<T>(x);
      return {x / d, one / (d * d)};
    }
    case ActivationKind::softplus: {
      const Vec<T> e = exp<T>(-absolute<T>(x));
      Vec<T> y{};
      for (int i = 0; i < lanes<T>; ++i) y[i] = std::log1p(e[i]);
      return {y + relu<T>(x), sigmoid<T>(x)};
    }
    case ActivationKind::identity:
      break;
  }
  return {x, one};
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
