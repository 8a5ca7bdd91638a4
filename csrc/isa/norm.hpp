// Layer normalisation of a row of sums (Ba, Kiros & Hinton 2016), x^ = (x - mean) / sqrt(var + eps) over n
// columns; and its gradient, dx = (dx^ - mean(dx^) - x^ mean(dx^ x^)) / sqrt(var + eps).
//
// Whoever needs a row's means takes them over the whole row, in one order: no result depends on how its
// units are shared out.
#pragma once

#include "cell.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

constexpr double norm_eps = 1e-5;

// Where blocks of H columns stand in a row by panels.
template <int count>
struct Blocks {
  int of_row;     // blocks of a panel of the row
  int at[count];  // those that are normalised
};

// Blocks of W_ih x in a row of sums, and those of W_hh h.
template <class Cell>
constexpr Blocks<Cell::gates> input_blocks() {
  Blocks<Cell::gates> blocks{Cell::columns, {}};
  for (int g = 0; g < Cell::gates; ++g) blocks.at[g] = g;
  return blocks;
}
template <class Cell>
constexpr Blocks<Cell::gates> hidden_blocks() {
  Blocks<Cell::gates> blocks{Cell::columns, {}};
  for (int g = 0; g < Cell::gates; ++g) blocks.at[g] = hidden_column<Cell>(g);
  return blocks;
}

template <int W, class V, int... Lane>
PYRNN_INLINE V folded(V v, std::integer_sequence<int, Lane...>) {
  return v + shuffle<(Lane ^ W)...>(v, v);
}
// The sum of all lanes.
template <class T, int W = lanes<T> / 2>
PYRNN_INLINE T total(Vec<T> v) {
  if constexpr (W == 0) {
    return v[0];
  } else {
    return total<T, W / 2>(folded<W>(v, std::make_integer_sequence<int, lanes<T>>()));
  }
}

// 0 beyond a row's end.
template <class T, bool full>
PYRNN_INLINE Vec<T> within(const Lanes<T, full>& at, Vec<T> v) {
  if constexpr (full) {
    return v;
  } else {
    T values[lanes<T>];
    store(values, v);
    return load_partial(values, at.n);
  }
}

// Calls f(at, panel) over the units of some panels.
template <class T, class F>
PYRNN_INLINE void for_units(Range panels, Index H, F f) {
  constexpr Index W = panel_width<T>;
  for (Index p = panels.first; p < panels.last; ++p) {
    for_lanes<T>(p * W, min(H, (p + 1) * W), [&](const auto& at) { f(at, p); });
  }
}

// The sum of f(at, panel, i) over all units and blocks i.
template <int count, class T, class F>
PYRNN_INLINE T sum_of_row(Index H, F f) {
  Vec<T> sums[count] = {};
  for_units<T>({0, panels_of<T>(H)}, H, [&](const auto& at, Index p) {
#pragma GCC unroll 4
    for (int i = 0; i < count; ++i) sums[i] += f(at, p, i);
  });
  for (int i = 1; i < count; ++i) sums[0] += sums[i];
  return total<T>(sums[0]);
}

template <class T>
struct Moments {
  T mean, rstd;
};

template <int count, class T>
__attribute__((noinline)) Moments<T> moments(const T* row, const Blocks<count>& blocks, Index H) {
  constexpr Index W = panel_width<T>;
  const auto value = [&](const auto& at, Index p, int i) {
    return at.load(panel_blocks(row, p, blocks.of_row) + blocks.at[i] * W);
  };
  const T n = T(count * H);
  const T mean = sum_of_row<count, T>(H, value) / n;
  const T squares = sum_of_row<count, T>(H, [&](const auto& at, Index p, int i) {
    const Vec<T> d = within(at, value(at, p, i) - splat(mean));
    return d * d;
  });
  return {mean, T(1) / std::sqrt(squares / n + T(norm_eps))};
}

// sums += gain x^ in some panels, x^ the normalised blocks of the row `raw`, which `norm` keeps: [count, H]
// or null. All rows have the same blocks.
template <int count, class T>
__attribute__((noinline)) void add_normalised(const T* raw, const Moments<T>& m, const T* gain,
                                              const Blocks<count>& blocks, Index H, Range panels,
                                              T* sums, T* norm) {
  constexpr Index W = panel_width<T>;
  for_units<T>(panels, H, [&](const auto& at, Index p) {
#pragma GCC unroll 4
    for (int i = 0; i < count; ++i) {
      const auto place = [&](auto* row) {
        return panel_blocks(row, p, blocks.of_row) + blocks.at[i] * W;
      };
      const Vec<T> x = (at.load(place(raw)) - splat(m.mean)) * splat(m.rstd);
      at.store(place(sums), at.load(place(gain)) * x + at.load(place(sums)));
      if (norm != nullptr) at.store(norm + i * H, x);
    }
  });
}

// The two means that the gradient of a row takes: of dx^ and of dx^ x^.
template <class T>
struct GradMeans {
  T of_d, of_dx;
};

// dx^(at, panel, i) and x^(at, panel, i).
template <int count, class T, class D, class X>
PYRNN_INLINE GradMeans<T> grad_means(Index H, D d, X x) {
  Vec<T> sum_d[count] = {}, sum_dx[count] = {};
  for_units<T>({0, panels_of<T>(H)}, H, [&](const auto& at, Index p) {
#pragma GCC unroll 4
    for (int i = 0; i < count; ++i) {
      const Vec<T> value = d(at, p, i);
      sum_d[i] += value;
      sum_dx[i] += value * x(at, p, i);
    }
  });
  for (int i = 1; i < count; ++i) sum_d[0] += sum_d[i], sum_dx[0] += sum_dx[i];
  const T n = T(count * H);
  return {total<T>(sum_d[0]) / n, total<T>(sum_dx[0]) / n};
}

template <class T>
PYRNN_INLINE Vec<T> through_norm(Vec<T> d, Vec<T> x, const GradMeans<T>& means, T rstd) {
  return splat(rstd) * ((d - splat(means.of_d)) - x * splat(means.of_dx));
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
