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

// The means of d and of d x over a row.
template <class T>
struct Means {
  T of_d, of_dx;
};

// Of d(at, panel, i) and x(at, panel, i), for all units and blocks i.
template <int count, class T, class D, class X>
PYRNN_INLINE Means<T> means_of(Index H, D d, X x) {
  // As the initialiser of an array a zero would be a string instruction, as long as a dozen lines.
  Vec<T> sum_d[count], sum_dx[count];
#pragma GCC unroll 4
  for (int i = 0; i < count; ++i) sum_d[i] = sum_dx[i] = Vec<T>{};
  for_units<T>({0, panels_of<T>(H)}, H, [&](const auto& at, Index p) {
#pragma GCC unroll 4
    for (int i = 0; i < count; ++i) {
      const Vec<T> value = d(at, p, i);
      sum_d[i] += value;
      sum_dx[i] += value * x(at, p, i);
    }
  });
#pragma GCC unroll 4
  for (int i = 1; i < count; ++i) sum_d[0] += sum_d[i], sum_dx[0] += sum_dx[i];
  const T n = T(count * H);
  return {total<T>(sum_d[0]) / n, total<T>(sum_dx[0]) / n};
}

template <class T>
struct Moments {
  T mean, rstd;
};

// In one pass, from a value of the row on: var = mean(d^2) - mean(d)^2 loses what the mean is larger than the
// deviation, and d, the distance to the middle one of three values, has a mean of about its deviation.
template <class Blocks, class T>
__attribute__((noinline)) Moments<T> moments(const T* row, Index H) {
  constexpr int count = Blocks::count;
  const auto block = [&](Index p, int i) {
    return panel_blocks(row, p, Blocks::of_row) + Blocks::at(i) * panel_width<T>;
  };
  const auto one = [&](Index unit, int i) { return block(unit / panel_width<T>, i)[unit]; };
  const T a = one(0, 0), b = one(H / 2, count / 2), c = one(H - 1, count - 1);
  const T low = a < b ? a : b, high = a < b ? b : a;
  const T middle = c < low ? low : (high < c ? high : c);
  const auto distance = [&](const auto& at, Index p, int i) {
    return within(at, at.load(block(p, i)) - splat(middle));
  };
  const Means<T> m = means_of<count, T>(H, distance, distance);
  const T var = m.of_dx - m.of_d * m.of_d;
  return {middle + m.of_d, T(1) / std::sqrt((var < T(0) ? T(0) : var) + T(norm_eps))};
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

template <class T>
PYRNN_INLINE Vec<T> through_norm(Vec<T> d, Vec<T> x, const Means<T>& means, T rstd) {
  return splat(rstd) * ((d - splat(means.of_d)) - x * splat(means.of_dx));
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
