// C[r][n] = base[n] + sum_k A[r][k] B[k][n], B packed in panels one cache line wide.
//
// The only accumulation in the kernels. An element of C is one chain of fused operations over ascending
// k, whatever the tile, the thread or the batch it is computed in: results depend on none of them.
#pragma once

#include "panels.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// --- the tile ------------------------------------------------------------------------------------------

// Accumulators that leave registers for the panel's vectors and one broadcast: 12 of 16, or 24 of 32; 8
// where a product takes one more register on its way to the sum.
#if defined(__x86_64__) && !defined(__FMA__)
constexpr int accumulators = 8;
#else
constexpr int accumulators = vector_registers == 32 ? 24 : 12;
#endif
// Most rows of a tile: of 6 x 2 vectors, each step loads 2 + 6 values for 12 fused operations, below the
// two loads per cycle that feed them.
constexpr int tile_rows = accumulators / panel_vectors < 6 ? accumulators / panel_vectors : 6;
// Panels side by side. An FMA takes 4 cycles and two start in each: with few rows it takes several panels
// to keep 8 in flight.
template <int R>
constexpr int tile_panels =
    accumulators / (R * panel_vectors) > 4 ? 4 : accumulators / (R * panel_vectors);

// Keeps a loaded vector in a register: with few rows GCC would load it again inside each fused operation. For
// variables of their own: an element of an array, as an operand of asm, would go through memory.
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

template <class T>
PYRNN_INLINE void copy_line(const T* from, T* to) {
#pragma GCC unroll 4
  for (int v = 0; v < panel_vectors; ++v) store(to + v * lanes<T>, load(from + v * lanes<T>));
}

// Up to four neighbouring panels as a tile sees them: worked out once for all tiles that pass over them,
// since indexing takes as long as a dozen lines.
template <class T>
struct Strip {
  const T* line;    // line 0 of the first panel
  Index next_line;  // distances
  Index next_panel;
  Index column[4];    // of C
  int width[4];       // columns of C to fill
  bool whole = true;  // whether those are all of them
};

// The branches on `base` and `whole` stand around whole loops: inside them they would cost as much as a
// dozen lines.
template <Base base, bool whole, int R, int P, class T>
PYRNN_INLINE void load_sums(Vec<T> (&sum)[R][P * panel_vectors], const RowPointers<T>& rows,
                            const Strip<T>& b, Index at, const T* base_row) {
  constexpr int V = panel_vectors;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int j = 0; j < P * V; ++j) {
      if constexpr (base == Base::zero) {
        sum[r][j] = Vec<T>{};
      } else {
        const T* const from = (base == Base::row ? base_row : rows.c[r]) + b.column[at + j / V];
        sum[r][j] =
            whole ? load(from + j % V * lanes<T>) : load_line(from, j % V, b.width[at + j / V]);
      }
    }
  }
}

template <bool whole, int R, int P, class T>
PYRNN_INLINE void store_sums(const Vec<T> (&sum)[R][P * panel_vectors], const RowPointers<T>& rows,
                             const Strip<T>& b, Index at) {
  constexpr int V = panel_vectors;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int j = 0; j < P * V; ++j) {
      T* const to = rows.c[r] + b.column[at + j / V];
      if constexpr (whole) {
        store(to + j % V * lanes<T>, sum[r][j]);
      } else {
        store_line(to, j % V, b.width[at + j / V], sum[r][j]);
      }
    }
  }
}

// sum[r][place(v)] += a[r][element] * line(v), for R rows and the N vectors of a line. The line waits in
// registers, or, where they are too few for it, the rows' values do.
template <int R, int N, class T, int S, class Line, class Place>
PYRNN_INLINE void multiply_line(Vec<T> (&sum)[R][S], const T* const (&a)[R], Index element,
                                Line line, Place place) {
  if constexpr (R > 1 && R < N && R * S + N + 1 > vector_registers) {
    Vec<T> x[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      Vec<T> value = splat(a[r][element]);
      keep(value);
      x[r] = value;
    }
#pragma GCC unroll 16
    for (int v = 0; v < N; ++v) {
      Vec<T> w = line(v);
      keep(w);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sum[r][place(v)] = x[r] * w + sum[r][place(v)];
    }
  } else {
    Vec<T> w[N];
#pragma GCC unroll 16
    for (int v = 0; v < N; ++v) {
      Vec<T> loaded = line(v);
      if constexpr (R > 1) keep(loaded);
      w[v] = loaded;
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
      const Vec<T> x = splat(a[r][element]);
#pragma GCC unroll 16
      for (int v = 0; v < N; ++v) sum[r][place(v)] = x * w[v] + sum[r][place(v)];
    }
  }
}

// Neighbouring panels, from `line` on.
template <class T>
struct Lines {
  const T* line;
  Index next_line, next_panel;  // distances

  // Known beforehand where panels lie interleaved: a tile of one row, with an index in the address of each
  // line, is 5 % below the bandwidth of L2.
  PYRNN_INLINE Index panel_step() const { return most_bundled > 1 ? panel_width<T> : next_panel; }
  // And where they do not: one register less, of the few that AVX2 has for pointers.
  PYRNN_INLINE Index line_step() const { return most_bundled > 1 ? next_line : panel_width<T>; }
};

// What comes into L2 line by line while a tile runs: lines that are multiplied after it. Where L3 is slow
// (8 bytes in a cycle and core of Intel's servers), tiles that meet theirs there run at a third of the rate,
// and no prefetcher knows which lines those will be.
struct Ahead {
  const char* at = nullptr;
  Index step = 0;  // bytes, with each line of the tile; 0: nothing

  PYRNN_INLINE void advance() {
    __builtin_prefetch(at, 0, 2);
    at += step;
  }
};

// The usual second-level cache of a core, and what stays there beside what else is read and written.
constexpr Index second_level_bytes = 1024 * 1024, near_bytes = second_level_bytes / 2;

// Fewer rows take lines faster than any come.
template <int R>
constexpr bool looks_ahead = most_bundled > 1 && R >= 4;

// The strip of `panels` panels whose lines `k` start at `line`, while pass `pass` of `passes` goes over as many
// lines of another one.
template <class T>
PYRNN_INLINE Ahead ahead_of(const T* line, Index panels, Index lines, Index pass, Index passes) {
  const Index step = ceil_div(panels * line_bytes, passes);
  return {reinterpret_cast<const char*>(line) + pass * lines * step, step};
}

// sum[r][place(v)] += the products of `depth` values of each row, `step` apart, with the lines of P panels.
template <int R, int P, class T, int S, class Place>
PYRNN_INLINE void add_lines(Vec<T> (&sum)[R][S], const T* const (&a)[R], Index step, Lines<T> b,
                            Index depth, Ahead ahead, Place place) {
  constexpr int V = panel_vectors;
  Index element = 0;
  const auto pass_over = [&](auto looks) {
#pragma GCC unroll 2
    for (Index n = depth; n > 0; --n) {
      multiply_line<R, P * V, T>(
          sum, a, element,
          [&](int v) { return load(b.line + v / V * b.panel_step() + v % V * lanes<T>); }, place);
      b.line += b.line_step();
      element += step;
      if constexpr (decltype(looks)::value) ahead.advance();
    }
  };
  if constexpr (looks_ahead<R>) {
    if (ahead.step > 0) return pass_over(std::true_type());
  }
  pass_over(std::false_type());
}

// R rows by P panels of a strip, from its panel `at` on, over the lines `k`.
template <int R, int P, class T>
PYRNN_INLINE void tile(Base base, const RowPointers<T>& rows, const Strip<T>& b, Index at, Range k,
                       const T* base_row, Ahead ahead) {
  constexpr int V = panel_vectors;
  Vec<T> sum[R][P * V];
  if (base == Base::zero) {
    load_sums<Base::zero, true, R, P, T>(sum, rows, b, at, base_row);
  } else if (base == Base::row) {
    if (b.whole) {
      load_sums<Base::row, true, R, P, T>(sum, rows, b, at, base_row);
    } else {
      load_sums<Base::row, false, R, P, T>(sum, rows, b, at, base_row);
    }
  } else if (b.whole) {
    load_sums<Base::self, true, R, P, T>(sum, rows, b, at, base_row);
  } else {
    load_sums<Base::self, false, R, P, T>(sum, rows, b, at, base_row);
  }

  const T* a[R];
  for (int r = 0; r < R; ++r) a[r] = rows.a[r] + k.first * rows.step;
  add_lines<R, P, T>(
      sum, a, rows.step,
      Lines<T>{b.line + at * b.next_panel + k.first * b.next_line, b.next_line, b.next_panel},
      k.size(), ahead, [](int v) { return v; });

  if (b.whole) {
    store_sums<true, R, P, T>(sum, rows, b, at);
  } else {
    store_sums<false, R, P, T>(sum, rows, b, at);
  }
}

// Up to four panels in tiles of P and what is left. Calls f(std::integral_constant<int, panels>, first).
template <int P, class F>
PYRNN_INLINE void for_panels(Index panels, F f) {
  Index at = 0;
  for (; at + P <= panels; at += P) f(std::integral_constant<int, P>(), at);
  if constexpr (P > 3) {
    if (at + 3 <= panels) return f(std::integral_constant<int, 3>(), at);
  }
  if constexpr (P > 2) {
    if (at + 2 <= panels) return f(std::integral_constant<int, 2>(), at);
  }
  if constexpr (P > 1) {
    if (at < panels) f(std::integral_constant<int, 1>(), at);
  }
}

template <int R, class T>
void tile_strip(Base base, const RowPointers<T>& rows, const Strip<T>& b, Index panels, Range k,
                const T* base_row, Ahead ahead) {
  for_panels<tile_panels<R>>(panels, [&](auto p, Index at) {
    tile<R, decltype(p)::value>(base, rows, b, at, k, base_row, ahead);
  });
}

// Walks over the panels [first, last) of b strip by strip.
template <class T>
class Strips {
 public:
  PYRNN_INLINE Strips(const Panels<T>& b, Index first, Index last)
      : b_(b),
        panel_(first),
        last_(last),
        group_(first % b.groups),
        unit_(first / b.groups),
        bundle_(b.bundle()),
        in_bundle_(first % bundle_) {}

  // The next strip, and how many panels it has: 0 at the end.
  PYRNN_INLINE Index next(Strip<T>& strip) {
    Index panels = last_ - panel_;
    if (panels <= 0) return 0;
    if constexpr (most_bundled > 1) {
      const Index start = panel_ - in_bundle_, size = min(bundle_, b_.count() - start);
      strip.line = b_.data + ((start - b_.origin) * b_.depth + in_bundle_) * panel_width<T>;
      strip.next_line = size * panel_width<T>;
      strip.next_panel = panel_width<T>;
      panels = min(panels, size - in_bundle_);
      in_bundle_ = 0;
    } else {
      strip.line = b_.data + (panel_ - b_.origin) * b_.depth * panel_width<T>;
      strip.next_line = panel_width<T>;
      strip.next_panel = b_.depth * panel_width<T>;
      panels = min(panels, 4);
    }
    strip.whole = true;
    for (Index j = 0; j < panels; ++j) {
      strip.column[j] = b_.start[group_] + unit_ * b_.step;
      strip.width[j] = b_.padded ? panel_width<T> : b_.width_of_unit(unit_);
      strip.whole = strip.whole && strip.width[j] == panel_width<T>;
      if (++group_ == b_.groups) {
        group_ = 0;
        ++unit_;
      }
    }
    panel_ += panels;
    return panels;
  }

 private:
  const Panels<T>& b_;
  Index panel_, last_, group_, unit_, bundle_, in_bundle_;
};

// Calls f(std::integral_constant<int, rows of a tile>).
template <class F>
PYRNN_INLINE void with_rows(Index n, F f) {
  if constexpr (tile_rows > 3) {
    switch (n) {
      case 4:
        return f(std::integral_constant<int, 4>());
      case 5:
        return f(std::integral_constant<int, 5>());
      case 6:
        return f(std::integral_constant<int, 6>());
      default:
        break;
    }
  }
  switch (n) {
    case 1:
      return f(std::integral_constant<int, 1>());
    case 2:
      return f(std::integral_constant<int, 2>());
    default:
      if constexpr (tile_rows > 2) f(std::integral_constant<int, 3>());
  }
}

// All strips for the rows of one tile.
template <int R, class T>
void tile_strips(Base base, const RowPointers<T>& rows, const Panels<T>& b, Index first, Index last,
                 Range k, const T* base_row) {
  Strip<T> strip;
  Strips<T> strips(b, first, last);
  while (const Index panels = strips.next(strip)) {
    tile_strip<R>(base, rows, strip, panels, k, base_row, Ahead{});
  }
}

// Rows in balanced tiles: 16 are 6 + 5 + 5, not 6 + 6 + 4. Calls f(first row, rows).
template <class F>
PYRNN_INLINE void for_tiles(Index count, F f) {
  Index row = 0;
  for (Index tiles = ceil_div(count, tile_rows); tiles > 0; --tiles) {
    const Index n = ceil_div(count - row, tiles);
    f(row, n);
    row += n;
  }
}

// C = base + A B for `count` rows, panels [first, last) and lines `k`. `then`: the panels that these rows meet
// next.
template <Base base, class T>
void multiply(Index count, const RowPointers<T>& rows, const Panels<T>& b, Index first, Index last,
              Range k, const T* base_row = nullptr, Range then = {0, 0}) {
  if (count == 0) return;
  if (count <= tile_rows) {
    return with_rows(count, [&](auto n) {
      tile_strips<decltype(n)::value>(base, rows, b, first, last, k, base_row);
    });
  }
  // A strip, of the longest a part of its lines, stays in L1 or L2 while all rows pass over it, and what is next
  // comes there.
  Strip<T> strip{}, next{};
  Strips<T> strips(b, first, last);
  constexpr bool looks = most_bundled > 1;
  const Index bytes = b.bundle() * k.size() * line_bytes, tiles = ceil_div(count, tile_rows);
  const int parts = looks ? int(max(1, ceil_div(bytes, near_bytes / 2))) : 1;
  const bool far = looks && b.size() * Index(sizeof(T)) > near_bytes;
  for (Index panels = strips.next(strip), more; panels > 0; panels = more, strip = next) {
    more = strips.next(next);
    Index coming = more;
    if (far && coming == 0) coming = Strips<T>(b, then.first, then.last).next(next);
    for (int i = 0; i < parts; ++i) {
      const Range of_k = part(k.size(), i, parts);
      const Range lines{k.first + of_k.first, k.first + of_k.last};
      const bool ends = i + 1 == parts;
      const T* const ahead_line =
          ends ? next.line + k.first * next.next_line : strip.line + lines.last * strip.next_line;
      const Index ahead_panels = !far ? 0 : ends ? coming : panels;
      Index pass = 0;
      for_tiles(count, [&](Index row, Index some) {
        const RowPointers<T> own{rows.a + row, rows.step, rows.c + row};
        const Ahead ahead = ahead_of(ahead_line, ahead_panels, lines.size(), pass++, tiles);
        with_rows(some, [&](auto n) {
          tile_strip<decltype(n)::value>(i == 0 ? base : Base::self, own, strip, panels, lines,
                                         base_row, ahead);
        });
      });
    }
  }
}

// Over all lines.
template <Base base, class T>
void multiply(Index count, const RowPointers<T>& rows, const Panels<T>& b, Index first, Index last,
              const T* base_row = nullptr) {
  multiply<base>(count, rows, b, first, last, Range{0, b.depth}, base_row);
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
