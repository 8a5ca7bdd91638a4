// What one core reaches at most: fused multiply-adds, and reads. The inputs are opaque and every lane of
// every chain goes into the result, so that no compiler can leave out or merge what is being counted.
#pragma once

#include "vec.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class T>
PYRNN_INLINE Vec<T> opaque(T x) {
  return rounded(splat(x));
}

template <class T, int chains>
PYRNN_INLINE T sum_of_lanes(const Vec<T> (&chain)[chains]) {
  T total = 0;
  for (int i = 0; i < chains; ++i) {
    for (int lane = 0; lane < lanes<T>; ++lane) total += chain[i][lane];
  }
  return total;
}

// 2 FLOPs a lane, chain and round; returns how many. Two start per cycle and end four cycles later: eight
// chains would do, twelve forgive a port that is taken now and then, and still fit 16 registers with a, b
// and, where there is no fused operation, the product.
template <class T>
Index probe(Index rounds, T* sink) {
  constexpr int chains = 12;
  Vec<T> sum[chains];
#pragma GCC unroll 12
  for (int i = 0; i < chains; ++i) sum[i] = opaque(T(i));
  const Vec<T> a = opaque(T(0.5)), b = opaque(T(1));  // each chain approaches 2
  for (Index n = 0; n < rounds; ++n) {
#pragma GCC unroll 12
    for (int i = 0; i < chains; ++i) sum[i] = a * sum[i] + b;
  }
  *sink = sum_of_lanes<T>(sum);
  return rounds * chains * lanes<T> * 2;
}

// data [n], aligned to a cache line: n is cut to whole groups of vectors. Two additions start per cycle and
// end four cycles later, which takes eight chains.
template <class T>
void read(const T* data, Index n, Index rounds, T* sink) {
  constexpr int chains = 8;
  Vec<T> sum[chains];
#pragma GCC unroll 8
  for (int c = 0; c < chains; ++c) sum[c] = opaque(T(0));
  for (Index round = 0; round < rounds; ++round) {
    for (Index i = 0; i + chains * lanes<T> <= n; i += chains * lanes<T>) {
#pragma GCC unroll 8
      for (int c = 0; c < chains; ++c) sum[c] += load(data + i + c * lanes<T>);
    }
  }
  *sink = sum_of_lanes<T>(sum);
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
