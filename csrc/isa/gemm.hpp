// C[r][n] = base[n] + sum_k A[r][k] B[k][n], B packed in panels one cache line wide.
//
// The only accumulation in the kernels. An element of C is one chain of fused operations over ascending
// k, whatever the tile, the thread or the batch it is computed in: results depend on none of them.
#pragma once

#include "range.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// A panel holds `panel_width` columns; its row for one k is one cache line.
constexpr int line_bytes = 64;
template <class T>
constexpr int panel_width = line_bytes / static_cast<int>(sizeof(T));
constexpr int panel_vectors = line_bytes / vector_bytes;

template <class T>
PYRNN_INLINE Index panels_of(Index columns) {
  return ceil_div(columns, panel_width<T>);
}

// Packed B: panel p starts at data + p * depth * panel_width. Panels of `groups` column blocks alternate,
// so that a range of panels is a range of hidden units with all of their gates. Block g stands at column
// `start[g]` of C and has `columns` columns; the last panel of a block is padded with zeros.
template <class T>
struct Panels {
  static constexpr const char* precision = sizeof(T) == sizeof(float) ? "float32" : "float64";

  const T* data;
  Index depth;    // K
  Index columns;  // of one block
  int groups;
  Index start[4];
  Index origin = 0;  // the panel that data points to

  PYRNN_INLINE Index count() const { return groups * panels_of<T>(columns); }
  PYRNN_INLINE const T* panel(Index p) const {
    return data + (p - origin) * depth * panel_width<T>;
  }
  PYRNN_INLINE Index column(Index p) const {
    return start[p % groups] + p / groups * panel_width<T>;
  }
  // Columns of panel p that exist.
  PYRNN_INLINE int width(Index p) const {
    const Index left = columns - p / groups * panel_width<T>;
    return static_cast<int>(min(left, panel_width<T>));
  }
};

// Rows of A and C. Element k of row r of A is a[r][k * step].
template <class T>
struct RowPointers {
  const T* const* a;
  Index step;
  T* const* c;
};

// What C becomes: base + sum, where base is null (0), C itself, or one row for all.
enum class Base { zero, self, row };

// --- the tile ------------------------------------------------------------------------------------------

// Accumulators that leave registers for the panel's vectors and one broadcast: 12 of 16, or 24 of 32.
constexpr int accumulators = vector_registers == 32 ? 24 : 12;
// Most rows of a tile: of 6 x 2 vectors, each step loads 2 + 6 values for 12 fused operations, below the
// two loads per cycle that feed them.
constexpr int tile_rows = accumulators / panel_vectors < 6 ? accumulators / panel_vectors : 6;
// Panels side by side. An FMA takes 4 cycles and two start in each: with few rows it takes several panels
// to keep 8 in flight.
template <int R>
constexpr int tile_panels =
    accumulators / (R * panel_vectors) > 4 ? 4 : accumulators / (R * panel_vectors);

// Keeps a loaded vector in a register: with few rows GCC would load it again inside each fused operation.
template <class V>
PYRNN_INLINE void keep(V& v) {
#if defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__x86_64__) && PYRNN_VECTOR_BYTES <= 32
  asm("" : "+x"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#else
  (void)v;
#endif
}

template <class T>
PYRNN_INLINE Vec<T> load_line(const T* p, int v, int width) {
  const int left = width - v * lanes<T>;
  if (left >= lanes<T>) return load(p + v * lanes<T>);
  return left > 0 ? load_partial(p + v * lanes<T>, left) : Vec<T>{};
}

template <class T>
PYRNN_INLINE void store_line(T* p, int v, int width, Vec<T> value) {
  const int left = width - v * lanes<T>;
  if (left >= lanes<T>) {
    store(p + v * lanes<T>, value);
  } else if (left > 0) {
    store_partial(p + v * lanes<T>, value, left);
  }
}

// R rows by P panels, from panel p on.
template <Base base, int R, int P, class T>
PYRNN_INLINE void tile(const RowPointers<T>& rows, const Panels<T>& b, Index p, const T* base_row) {
  constexpr int V = panel_vectors;
  Vec<T> sum[R][P * V];
#pragma GCC unroll 8
  for (int j = 0; j < P; ++j) {
    const Index column = b.column(p + j);
    const int width = b.width(p + j);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        if constexpr (base == Base::zero) {
          sum[r][j * V + v] = Vec<T>{};
        } else {
          const T* from = (base == Base::self ? rows.c[r] : base_row) + column;
          sum[r][j * V + v] = load_line(from, v, width);
        }
      }
    }
  }

  const T* a[R];
  for (int r = 0; r < R; ++r) a[r] = rows.a[r];
  const T* line = b.panel(p);
  const Index stride = b.depth * panel_width<T>;
  const Index step = rows.step;
  Index at = 0;
#pragma GCC unroll 2
  for (Index k = 0; k < b.depth; ++k) {
    Vec<T> w[P * V];
#pragma GCC unroll 8
    for (int j = 0; j < P; ++j) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        w[j * V + v] = load(line + j * stride + v * lanes<T>);
        if constexpr (R > 1) keep(w[j * V + v]);
      }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec<T> x = splat(a[r][at]);
#pragma GCC unroll 8
      for (int v = 0; v < P * V; ++v) sum[r][v] = x * w[v] + sum[r][v];
    }
    line += panel_width<T>;
    at += step;
  }

#pragma GCC unroll 8
  for (int j = 0; j < P; ++j) {
    const Index column = b.column(p + j);
    const int width = b.width(p + j);
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) {
        store_line(rows.c[r] + column, v, width, sum[r][j * V + v]);
      }
    }
  }
}

template <Base base, int R, class T>
void tile_panels_in_turn(const RowPointers<T>& rows, const Panels<T>& b, Index first, Index last,
                         const T* base_row) {
  constexpr int P = tile_panels<R>;
  Index p = first;
  for (; p + P <= last; p += P) tile<base, R, P>(rows, b, p, base_row);
  if constexpr (P > 2) {
    for (; p + 2 <= last; p += 2) tile<base, R, 2>(rows, b, p, base_row);
  }
  if constexpr (P > 1) {
    for (; p < last; ++p) tile<base, R, 1>(rows, b, p, base_row);
  }
}

template <Base base, class T>
void tile_of(Index n, const RowPointers<T>& rows, const Panels<T>& b, Index first, Index last,
             const T* base_row) {
  switch (n) {
    case 1:
      return tile_panels_in_turn<base, 1>(rows, b, first, last, base_row);
    case 2:
      return tile_panels_in_turn<base, 2>(rows, b, first, last, base_row);
    case 3:
      return tile_panels_in_turn<base, 3>(rows, b, first, last, base_row);
    default:
      break;
  }
  if constexpr (tile_rows > 3) {
    switch (n) {
      case 4:
        return tile_panels_in_turn<base, 4>(rows, b, first, last, base_row);
      case 5:
        return tile_panels_in_turn<base, 5>(rows, b, first, last, base_row);
      default:
        return tile_panels_in_turn<base, 6>(rows, b, first, last, base_row);
    }
  }
}

// C = base + A B for `count` rows and panels [first, last). Rows are cut into balanced tiles: 16 rows are
// 6 + 5 + 5, not 6 + 6 + 4.
template <Base base, class T>
void multiply(Index count, const RowPointers<T>& rows, const Panels<T>& b, Index first, Index last,
              const T* base_row = nullptr) {
  if (count == 0 || first >= last) return;
  const Index tiles = ceil_div(count, tile_rows);
  if (tiles == 1) return tile_of<base>(count, rows, b, first, last, base_row);
  // A panel stays in L1 while all rows pass over it.
  for (Index p = first; p < last; ++p) {
    Index row = 0;
    for (Index i = 0; i < tiles; ++i) {
      const Index n = (count - row) / (tiles - i);
      tile_of<base>(n, {rows.a + row, rows.step, rows.c + row}, b, p, p + 1, base_row);
      row += n;
    }
  }
}

// --- packing -------------------------------------------------------------------------------------------

// Panels [first, last) of B = W^T: block g is rows [g * columns, (g + 1) * columns) of W [groups * columns, depth].
template <class T>
void pack_transposed(const Panels<T>& b, T* data, const T* w, Index first, Index last) {
  constexpr int N = lanes<T>;
  for (Index p = first; p < last; ++p) {
    const T* from = w + (p % b.groups * b.columns + p / b.groups * panel_width<T>)*b.depth;
    T* to = data + (p - b.origin) * b.depth * panel_width<T>;
    const int width = b.width(p);
    for (int v = 0; v < panel_vectors; ++v) {
      const int rows = width - v * N < 0 ? 0 : (width - v * N < N ? width - v * N : N);
      const T* w0 = from + v * N * b.depth;
      Index k = 0;
      for (; k + N <= b.depth; k += N) {
        Vec<T> square[N];
        for (int r = 0; r < N; ++r) square[r] = r < rows ? load(w0 + r * b.depth + k) : Vec<T>{};
        transpose<T>(square);
        for (int r = 0; r < N; ++r) store(to + (k + r) * panel_width<T> + v * N, square[r]);
      }
      for (; k < b.depth; ++k) {
        Vec<T> row = {};
        for (int r = 0; r < rows; ++r) row[r] = w0[r * b.depth + k];
        store(to + k * panel_width<T> + v * N, row);
      }
    }
  }
}

// Panels packed at once for a single use: as many as a tile of one row takes.
constexpr int panels_at_once = tile_panels<1>;

// multiply for a B = W^T that is used once: each panel is packed just before its use, into a buffer of
// panels_at_once panels that stays in cache.
template <Base base, class T>
void multiply_once(Index count, const RowPointers<T>& rows, const Panels<T>& b, const T* w,
                   T* buffer, Index first, Index last, const T* base_row = nullptr) {
  for (Index p = first; p < last; p += panels_at_once) {
    Panels<T> some = b;
    some.data = buffer;
    some.origin = p;
    const Index end = min(last, p + panels_at_once);
    pack_transposed(some, buffer, w, p, end);
    multiply<base>(count, rows, some, p, end, base_row);
  }
}

// Panels [first, last) of a B of one block whose row k `row(k)` gives: a pointer to `columns` values.
template <class T, class Row>
void pack_rows(const Panels<T>& b, T* data, Index first, Index last, Row row) {
  for (Index p = first; p < last; ++p) {
    const Index column = p * panel_width<T>;
    const int width = b.width(p);
    T* to = data + p * b.depth * panel_width<T>;
    for (Index k = 0; k < b.depth; ++k, to += panel_width<T>) {
      const T* from = row(k) + column;
      for (int v = 0; v < panel_vectors; ++v) {
        store(to + v * lanes<T>, load_line(from, v, width));
      }
    }
  }
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
