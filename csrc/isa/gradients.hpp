// Gradients of weights: dW[m][n] += sum_k d[k][m] b[k][n] over the rows k of a block, and their bias
// db[m] += sum_k d[k][m]. Threads share the outputs, never k, so that sums do not depend on them.
#pragma once

#include "pack.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// Columns [m, m + width) of d: K lines of panel_width values, `step` apart.
template <class T>
struct Slice {
  const T* data;
  Index depth;  // K
  int width;
  Index step = panel_width<T>;

  PYRNN_INLINE const T* line(Index k) const { return data + k * step; }
};

// Slice d and those beside it, `count` of whole lines, one after the other: side by side in the rows, they come in
// together.
template <class T>
void pack_slices(T* data, const Slice<T>& d, Index count) {
  constexpr Index W = panel_width<T>;
  for (Index k = 0; k < d.depth; ++k) {
    for (Index s = 0; s < count; ++s) copy_line(d.line(k) + s * W, data + (s * d.depth + k) * W);
  }
}

template <class T>
Slice<T> packed(T* data, const Slice<T>& d) {
  pack_slices(data, d, 1);
  return {data, d.depth, d.width};
}

// Out of rows that may lie anywhere.
template <class T>
Slice<T> pack_slice(T* data, const T* const* rows, Index depth, Index column, int width) {
  if (width == panel_width<T>) {
    for (Index k = 0; k < depth; ++k) copy_line(rows[k] + column, data + k * panel_width<T>);
  } else {
    const Panels<T> one{data, depth, width, 1, {}};
    pack_rows(one, 0, 1, {0, depth}, [&](Index k) { return rows[k] + column; });
  }
  return {data, depth, width};
}

// dw: row 0 of the slice, of [.., b.columns]. `first`: there is nothing to add to.
template <class T>
void accumulate_weight(const Slice<T>& d, const Panels<T>& b, T* dw, bool first) {
  const T* a[panel_width<T>];
  T* c[panel_width<T>];
  for (int m = 0; m < d.width; ++m) {
    a[m] = d.data + m;
    c[m] = dw + m * b.columns;
  }
  const RowPointers<T> rows{a, d.step, c};
  if (first) {
    multiply<Base::zero>(d.width, rows, b, 0, b.count());
  } else {
    multiply<Base::self>(d.width, rows, b, 0, b.count());
  }
}

// The same for one-hot b: row k of d goes to column tokens[k].
template <class T>
void scatter_weight(const Slice<T>& d, const std::int64_t* tokens, Index columns, T* dw) {
  for (Index k = 0; k < d.depth; ++k) {
    const T* const row = d.line(k);
    T* const column = dw + tokens[k];
    for (int m = 0; m < d.width; ++m) column[m * columns] += row[m];
  }
}

// to += sum_k f(k, v), v the vector of a line. The chains of a line's vectors run side by side.
template <class T, class F>
PYRNN_INLINE void accumulate_lines(Index depth, int width, T* to, bool first, F f) {
  Vec<T> sums[panel_vectors];
#pragma GCC unroll 4
  for (int v = 0; v < panel_vectors; ++v) sums[v] = first ? Vec<T>{} : load_line(to, v, width);
  for (Index k = 0; k < depth; ++k) {
#pragma GCC unroll 4
    for (int v = 0; v < panel_vectors; ++v) sums[v] += f(k, v);
  }
#pragma GCC unroll 4
  for (int v = 0; v < panel_vectors; ++v) store_line(to, v, width, sums[v]);
}

template <class T>
__attribute__((noinline)) void accumulate_bias(const Slice<T>& d, T* db, bool first) {
  accumulate_lines(d.depth, d.width, db, first,
                   [&](Index k, int v) { return load(d.line(k) + v * lanes<T>); });
}

// to += sum_k d[k] x[k] unit by unit, of a gain or a peephole; x: rows, from whose `column` the slice's units
// take theirs.
template <class T>
void accumulate_products(const Slice<T>& d, const T* const* x, Index column, T* to, bool first) {
  // A line of each row: no processor guesses where the next one is.
  constexpr Index ahead = 12;
  const auto sum = [&](auto load_x) {
    accumulate_lines(d.depth, d.width, to, first, [&](Index k, int v) {
      if (v == 0 && k + ahead < d.depth) __builtin_prefetch(x[k + ahead] + column);
      return load(d.line(k) + v * lanes<T>) * load_x(x[k] + column, v);
    });
  };
  if (d.width == panel_width<T>) {
    sum([](const T* of, int v) { return load(of + v * lanes<T>); });
  } else {
    sum([&](const T* of, int v) { return load_line(of, v, d.width); });
  }
}

// Rows of x or of a gradient, as an operand: B[k][n] = rows[k][n].
template <class T>
void pack_operand(const Panels<T>& b, const T* const* rows, Range panels) {
  pack_rows(b, panels.first, panels.last, {0, b.depth}, [&](Index k) { return rows[k]; });
}

// Rows of a matrix [depth, columns].
template <class T>
__attribute__((noinline)) void pack_matrix(const Panels<T>& b, const T* matrix, Range panels) {
  pack_rows(b, panels.first, panels.last, {0, b.depth},
            [&](Index k) { return matrix + k * b.columns; });
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
