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

// Where the blocks of H columns that are normalised as one stand in a row by panels: of W_ih x, of W_hh h,
// and a single one.
template <class Cell>
struct InputBlocks {
  static constexpr int count = Cell::gates, of_row = Cell::columns;
  static constexpr int at(int i) { return i; }
};
template <class Cell>
struct HiddenBlocks {
  static constexpr int count = Cell::gates, of_row = Cell::columns;
  static constexpr int at(int i) { return hidden_column<Cell>(i); }
};
template <int of_row_, int block>
struct OneBlock {
  static constexpr int count = 1, of_row = of_row_;
  static constexpr int at(int) { return block; }
};

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
  const Index whole = min(panels.last, H / W);
  for (Index p = panels.first; p < whole; ++p) {
#pragma GCC unroll 4
    for (int v = 0; v < panel_vectors; ++v) {
      f(Lanes<T, true>{p * W + v * lanes<T>, lanes<T>}, p);
    }
  }
  // The last panel may be short of units.
  if (panels.first < panels.last && whole < panels.last) {
    for_lanes<T>(whole * W, H, [&](const auto& at) { f(at, whole); });
  }
}

// Sums to begin with. As the initialiser of an array it would be a string instruction, which takes as long as
// a dozen lines.
template <class T, int count>
PYRNN_INLINE void clear(Vec<T> (&sums)[count]) {
#pragma GCC unroll 4
  for (int i = 0; i < count; ++i) sums[i] = Vec<T>{};
}

// The sum of f(at, panel, i) over all units and blocks i.
template <int count, class T, class F>
PYRNN_INLINE T sum_of_row(Index H, F f) {
  Vec<T> sums[count];
  clear<T>(sums);
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

template <class Blocks, class T>
__attribute__((noinline)) Moments<T> moments(const T* row, Index H) {
  constexpr int count = Blocks::count;
  const auto value = [&](const auto& at, Index p, int i) {
    return at.load(panel_blocks(row, p, Blocks::of_row) + Blocks::at(i) * panel_width<T>);
  };
  const T n = T(count * H);
  const T mean = sum_of_row<count, T>(H, value) / n;
  const T squares = sum_of_row<count, T>(H, [&](const auto& at, Index p, int i) {
    const Vec<T> d = within(at, value(at, p, i) - splat(mean));
    return d * d;
  });
  return {mean, T(1) / std::sqrt(squares / n + T(norm_eps))};
}

// sums = base + gain x^ in some panels, x^ the normalised blocks of the row `raw`, which `norm` [count, H]
// keeps with `save`. All rows have the same blocks; base may be sums.
template <class Blocks, bool save, class T>
__attribute__((noinline)) void add_normalised(const T* raw, const Moments<T>& m, const T* gain,
                                              Index H, Range panels, const T* base, T* sums,
                                              T* norm) {
  const Vec<T> mean = splat(m.mean), rstd = splat(m.rstd);
  for_units<T>(panels, H, [&](const auto& at, Index p) {
    const auto place = [&](auto* row, int i) {
      return panel_blocks(row, p, Blocks::of_row) + Blocks::at(i) * panel_width<T>;
    };
#pragma GCC unroll 4
    for (int i = 0; i < Blocks::count; ++i) {
      const Vec<T> x = (at.load(place(raw, i)) - mean) * rstd;
      at.store(place(sums, i), at.load(place(gain, i)) * x + at.load(place(base, i)));
      if constexpr (save) at.store(norm + i * H, x);
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
  Vec<T> sum_d[count], sum_dx[count];
  clear<T>(sum_d);
  clear<T>(sum_dx);
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
