// Packing B into panels: from rows of W for B = W^T, from rows of B itself, or just before a single use.
#pragma once

#include "gemm.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// Panel p, lines k, of B = W^T; `from` is W's row of the panel's first column.
template <class T>
void pack_transposed_panel(const Panels<T>& b, const T* from, Index p, Range k) {
  constexpr int N = lanes<T>;
  T* const to = b.panel(p);
  const Index next = b.line_step(p);
  const int width = b.width(p);
  for (int v = 0; v < panel_vectors; ++v) {
    const int rows = width - v * N < 0 ? 0 : (width - v * N < N ? width - v * N : N);
    const T* const w = from + v * N * b.depth;
    Index at = k.first;
    for (; at + N <= k.last; at += N) {
      Vec<T> square[N];
#pragma GCC unroll 16
      for (int r = 0; r < N; ++r) square[r] = r < rows ? load(w + r * b.depth + at) : Vec<T>{};
      transpose<T>(square);
#pragma GCC unroll 16
      for (int r = 0; r < N; ++r) store(to + (at + r) * next + v * N, square[r]);
    }
    for (; at < k.last; ++at) {
      Vec<T> row = {};
      for (int r = 0; r < rows; ++r) row[r] = w[r * b.depth + at];
      store(to + at * next + v * N, row);
    }
  }
}

// Panels [first, last) of B = W^T: block g is rows [g * columns, (g + 1) * columns) of W [groups * columns, depth].
template <class T>
void pack_transposed(const Panels<T>& b, const T* w, Index first, Index last) {
  // The panels of a bundle meet in the same lines: 64 lines of four are 16 KiB, half of L1.
  constexpr Index at_once = 64;
  for (Index p = first, next; p < last; p = next) {
    next = min(last, b.bundle_end(p));
    for (Index k = 0; k < b.depth; k += at_once) {
      for (Index q = p; q < next; ++q) {
        const Index row = q % b.groups * b.columns + q / b.groups * panel_width<T>;
        pack_transposed_panel(b, w + row * b.depth, q, {k, min(b.depth, k + at_once)});
      }
    }
  }
}

// Panels packed at once for a single use: what a tile of one row takes.
constexpr Index panels_at_once = tile_panels<1>;

// multiply for a B = W^T that is used once: each few panels are packed just before their use, into a
// buffer of panels_at_once panels that stays in cache.
template <Base base, class T>
void multiply_once(Index count, const RowPointers<T>& rows, const Panels<T>& b, const T* w,
                   T* buffer, Index first, Index last, const T* base_row = nullptr) {
  Panels<T> some = b;
  some.data = buffer;
  for (Index p = first, next; p < last; p = next) {
    some.origin = b.bundle_start(p);
    next = min(last, most_bundled > 1 ? b.bundle_end(p) : p + panels_at_once);
    pack_transposed(some, w, p, next);
    multiply<base>(count, rows, some, p, next, base_row);
  }
}

// Lines `k` of the panels [first, last) of a B of one block whose row k `row(k)` gives: a pointer to `columns`
// values, or null for zeros.
template <class T, class Row>
void pack_rows(const Panels<T>& b, Index first, Index last, Range k, Row row) {
  constexpr Index W = panel_width<T>;
  // Of so many rows all panels are packed before the next: each row comes in whole, while it is at hand.
  constexpr Index at_once = W;
  for (Index from = k.first, to; from < k.last; from = to) {
    to = min(k.last, from + at_once);
    for (Index p = first; p < last; ++p) {
      const int width = b.width(p);
      const Index step = b.line_step(p);
      T* line = b.panel(p) + from * step;
      for (Index at = from; at < to; ++at, line += step) {
        const T* const values = row(at);
        if (values != nullptr && width == W) {
          copy_line(values + p * W, line);
          continue;
        }
        for (int v = 0; v < panel_vectors; ++v) {
          const Vec<T> some = values == nullptr ? Vec<T>{} : load_line(values + p * W, v, width);
          store(line + v * lanes<T>, some);
        }
      }
    }
  }
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
