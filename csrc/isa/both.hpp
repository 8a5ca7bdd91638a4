// sums = bias + W_ih x + W_hh h, both products of a step at once: the sums stay in registers from the one
// to the other. Each is the same chain of operations as that of one product after the other.
#pragma once

#include "weights.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// Panels side by side in a strip: all gates of 16 units, or units of the one gate there is.
template <class Cell>
constexpr Index strip_panels = Cell::gates == 1 ? 4 : Cell::gates;

// A strip from panel p on, and in `panels` how many it has before `last`. As Strips has it, without the
// divisions by what is known here.
template <class Cell, class T>
PYRNN_INLINE Lines<T> lines_at(const Panels<T>& b, Index p, Index last, Index& panels) {
  constexpr Index W = panel_width<T>;
  if constexpr (most_bundled == 1) {
    panels = min(last - p, strip_panels<Cell>);
    return {b.data + p * b.depth * W, W, b.depth * W};
  } else if constexpr (Cell::gates > 1) {
    panels = Cell::gates;
    return {b.data + p * b.depth * W, Cell::gates * W, W};
  } else {
    const Index start = p - p % strip_panels<Cell>;
    const Index size = min(strip_panels<Cell>, b.count() - start);
    panels = min(last, start + size) - p;
    return {b.data + (start * b.depth + p - start) * W, size * W, W};
  }
}

// R rows by M vectors of a strip, from vector `first` on. Panel j of both adds to block j of the sums, from
// `column` on; where there is a block more than panels, the last panel of W_hh adds to that.
template <int R, int M, int first, bool apart, class T>
PYRNN_INLINE void tile_both(const T* const* x, Lines<T> w_ih, Index I, const T* const* h,
                            Lines<T> w_hh, Index H, const T* bias, T* const* sums, Index column,
                            Ahead next_ih, Ahead next_hh) {
  constexpr int V = panel_vectors, N = apart ? M + V : M, start = first * lanes<T>;
  Vec<T> sum[R][N];
  const T *a[R], *b[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
    a[r] = x[r];
    b[r] = h[r];
#pragma GCC unroll 16
    for (int v = 0; v < N; ++v) sum[r][v] = load(bias + column + start + v * lanes<T>);
  }
  add_lines<R, M, first, T>(sum, a, 1, w_ih, I, next_ih, [](int v) { return v; });
  add_lines<R, M, first, T>(sum, b, 1, w_hh, H, next_hh,
                            [](int v) { return apart && v >= M - V ? v + V : v; });
  // All pointers before the first store, as in store_sums.
  T* c[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) c[r] = sums[r] + column + start;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int v = 0; v < N; ++v) store(c[r] + v * lanes<T>, sum[r][v]);
  }
}

// Most rows of a tile that has a block more than panels, all blocks in registers.
template <class Cell>
constexpr int rows_apart = accumulators / (Cell::columns * panel_vectors);

// Whether n rows have all of their sums in registers from the one product to the other.
template <class Cell>
constexpr bool both_at_once(Index n) {
  constexpr bool apart = Cell::columns == Cell::gates + 1;
  return Cell::phases == 1 && (!apart || (n < tile_rows ? n : tile_rows) <= rows_apart<Cell>);
}

// Which of the passes over the same units this one is; `next`: the units of those that follow, none where all
// weights are at hand.
struct Pass {
  Index index = 0, count = 1;
  Range next{0, 0};
};

// n rows, the units of `panels`. `x` and `h` are as prepared() gives them; both have the sums as their C.
template <class Cell, class T, class Operand, class RowsOf>
void multiply_both(Index n, const RowsOf& x, const RowsOf& h,
                   const Weights<Cell, T, Operand>& weights, Range panels, Pass pass = {}) {
  constexpr int G = Cell::gates, C = Cell::columns;
  constexpr bool apart = C == G + 1;
  if constexpr (std::is_same_v<Operand, Panels<T>> && both_at_once<Cell>(1)) {
    if (both_at_once<Cell>(n)) {
      const Index last = panels.last * G;
      // Where panels do not lie interleaved, one is passed over by all rows while it is in L1, or as many as the
      // smallest tile takes at once.
      Index most = strip_panels<Cell>;
      if (most_bundled == 1 && !apart && n > tile_rows) {
        most = smallest_tile(n) > tile_rows / 2 ? 1 : 2;
      }
      for (Index p = panels.first * G, some = 0; p < last; p += some) {
        const Lines<T> w_ih = lines_at<Cell>(weights.input, p, last, some);
        const Lines<T> w_hh = lines_at<Cell>(weights.hidden[0], p, last, some);
        some = min(some, most);
        // Panels that do not lie interleaved are asked for one ahead of the first rows; the others find them in L2.
        const bool looks = pass.next.size() > 0 && (most_bundled > 1 || pass.index == 0);
        const Index passes = most_bundled > 1 ? pass.count : ceil_div(n, tile_rows);
        Index at_pass = pass.index;
        const auto strip_ahead = [&](const Panels<T>& b) {
          Index panels_ahead = 0;
          const bool ends = p + some >= last;
          const Lines<T> lines = lines_at<Cell>(b, ends ? pass.next.first * G : p + some,
                                                ends ? pass.next.last * G : last, panels_ahead);
          return ahead_of(lines.line, most_bundled > 1 ? panels_ahead : 1, b.depth, at_pass,
                          passes);
        };
        const auto tile = [&](auto rows_constant, Index row) {
          constexpr int R = decltype(rows_constant)::value;
          Ahead next_ih, next_hh;
          if (looks_ahead<R> && looks) {
            next_ih = strip_ahead(weights.input);
            next_hh = strip_ahead(weights.hidden[0]);
          }
          const auto panels_of_tile = [&](auto vectors, auto first, Index at) {
            constexpr int M = decltype(vectors)::value, from = decltype(first)::value;
            Lines<T> ih = w_ih, hh = w_hh;
            ih.line += at * ih.next_panel;
            hh.line += at * hh.next_panel;
            tile_both<R, M, from, apart>(x.a + row, ih, weights.input.depth, h.a + row, hh,
                                         weights.hidden[0].depth, weights.bias, x.c + row,
                                         (apart ? p / G * C : p + at) * panel_width<T>, next_ih,
                                         next_hh);
            if (most_bundled == 1 && next_ih.step > 0) {
              next_ih.at += ih.next_panel * Index(sizeof(T));
              next_hh.at += hh.next_panel * Index(sizeof(T));
            }
          };
          if constexpr (!apart && (most_bundled == 1 || G == 1)) {
            for_panels<R>(some, panels_of_tile);
          } else if constexpr (!apart || R <= rows_apart<Cell>) {
            panels_of_tile(std::integral_constant<int, G * panel_vectors>(),
                           std::integral_constant<int, 0>(), 0);
          }
          if constexpr (most_bundled == 1) ++at_pass;
        };
        if (n == 1) {
          tile(std::integral_constant<int, 1>(), 0);
          continue;
        }
        for_tiles(n, [&](Index row, Index rows) {
          with_rows(rows, [&](auto rows_constant) { tile(rows_constant, row); });
        });
      }
      return;
    }
  }
  constexpr PhaseGates<Cell> gates(0);
  if constexpr (std::is_same_v<Operand, ReducedMatrix> && Cell::phases == 1) {
    if (const auto both = weights.input.precision->multiply_both) {
      return both(n, x, weights.input, h, weights.hidden[0], panels.first * G, panels.last * G,
                  weights.bias);
    }
  }
  for (Index i = 0; i < n; ++i) weights.start_sums(x.c[i], panels);
  const Range inputs = grouped(panels, G), states = grouped(panels, gates.count);
  multiply<Base::row>(n, x, weights.input, inputs.first, inputs.last, weights.bias);
  multiply<Base::self>(n, h, weights.hidden[0], states.first, states.last);
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
