// The tile of the product: a few rows by a few panels, whose sums stay in registers from the first line to the last.
#pragma once

#include "panels.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

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
// Whether a panel is two vectors and there are few registers for sums of them.
constexpr bool few_sums = accumulators == 12 && panel_vectors == 2;
// Panels side by side. A fused multiply-add takes 4 or 5 cycles and two start in each: with few rows it takes several
// panels to keep 8 or 10 in flight. Where three would do, two: a strip has four.
template <int R>
constexpr int tile_panels =
    accumulators / (R * panel_vectors) > 3 ? 4 : (accumulators / (R * panel_vectors) > 1 ? 2 : 1);

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
template <Base base, bool whole, int R, int N, int first, class T>
PYRNN_INLINE void load_sums(Vec<T> (&sum)[R][N], const RowPointers<T>& rows, const Strip<T>& b,
                            Index at, const T* base_row) {
  constexpr int V = panel_vectors;
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
    for (int v = first; v < first + N; ++v) {
      if constexpr (base == Base::zero) {
        sum[r][v - first] = Vec<T>{};
      } else {
        const T* const from = (base == Base::row ? base_row : rows.c[r]) + b.column[at + v / V];
        sum[r][v - first] =
            whole ? load(from + v % V * lanes<T>) : load_line(from, v % V, b.width[at + v / V]);
      }
    }
  }
}

// Whole panels are the usual case: pointers come first there, since after a store compilers read each of them again.
template <bool whole, int R, int N, int first, class T>
PYRNN_INLINE void store_sums(const Vec<T> (&sum)[R][N], const RowPointers<T>& rows,
                             const Strip<T>& b, Index at) {
  constexpr int V = panel_vectors, panels = (first + N - 1) / V + 1;
  const auto for_sums = [&](auto f) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) {
#pragma GCC unroll 16
      for (int v = first; v < first + N; ++v) f(r, v);
    }
  };
  if constexpr (whole) {
    Index column[panels];
#pragma GCC unroll 4
    for (int j = 0; j < panels; ++j) column[j] = b.column[at + j];
    T* c[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) c[r] = rows.c[r];
    for_sums([&](int r, int v) __attribute__((always_inline)) {
      store(c[r] + column[v / V] + v % V * lanes<T>, sum[r][v - first]);
    });
  } else {
    for_sums([&](int r, int v) __attribute__((always_inline)) {
      store_line(rows.c[r] + b.column[at + v / V], v % V, b.width[at + v / V], sum[r][v - first]);
    });
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
// (8 bytes in a cycle and core of Intel's servers), or weights are larger than it, tiles that meet theirs there run at
// a third of the rate, and no prefetcher knows which lines those will be.
struct Ahead {
  const char* at = nullptr;
  Index step = 0;  // bytes, with each `lines_for_one` lines of the tile; 0: nothing

  PYRNN_INLINE void advance() {
    __builtin_prefetch(at, 0, 2);
    at += step;
  }
};

// The usual second-level cache of a core, and what stays there beside what else is read and written.
constexpr Index second_level_bytes = 1024 * 1024, near_bytes = second_level_bytes / 2;

// Fewer rows take lines faster than any come.
template <int R>
constexpr bool looks_ahead = (most_bundled > 1 || few_sums) && R >= 4;

// Lines of a tile for one that is asked for. Of tiles on narrow vectors it is the instructions that count.
constexpr int lines_for_one = most_bundled > 1 ? 1 : 2;

// The strip of `panels` panels whose lines `k` start at `line`, while pass `pass` of `passes` goes over as many
// lines of another one. No line is left out where there are passes enough, `lines_for_one`.
template <class T>
PYRNN_INLINE Ahead ahead_of(const T* line, Index panels, Index lines, Index pass, Index passes) {
  const Index step =
      min(panels * line_bytes, ceil_div(lines_for_one * panels * line_bytes, passes));
  return {reinterpret_cast<const char*>(line) + pass * (lines / lines_for_one) * step, step};
}

// sum[r][place(v)] += the products of `depth` values of each row, `step` apart, with N vectors of neighbouring
// panels from vector `first` on.
template <int R, int N, int first, class T, int S, class Place>
PYRNN_INLINE void add_lines(Vec<T> (&sum)[R][S], const T* const (&a)[R], Index step, Lines<T> b,
                            Index depth, Ahead ahead, Place place) {
  constexpr int V = panel_vectors;
  Index element = 0;
  const auto add_line = [&]() __attribute__((always_inline)) {
    const auto line = [&](int v) {
      return load(b.line + (first + v) / V * b.panel_step() + (first + v) % V * lanes<T>);
    };
    multiply_line<R, N, T>(sum, a, element, line, place);
    b.line += b.line_step();
    element += step;
  };
  const auto pass_over = [&](auto looks) __attribute__((always_inline)) {
    constexpr int every = decltype(looks)::value ? lines_for_one : 1;
    Index n = depth;
    if constexpr (every > 1) {
      for (; n >= every; n -= every) {
#pragma GCC unroll 2
        for (int i = 0; i < every; ++i) add_line();
        ahead.advance();
      }
      for (; n > 0; --n) add_line();
      return;
    }
#pragma GCC unroll 2
    for (; n > 0; --n) {
      add_line();
      if constexpr (decltype(looks)::value) ahead.advance();
    }
  };
  if constexpr (looks_ahead<R>) {
    if (ahead.step > 0) return pass_over(std::true_type());
  }
  pass_over(std::false_type());
}

// R rows by N vectors of a strip, from vector `first` of its panel `at` on, over the lines `k`.
template <int R, int N, int first, class T>
PYRNN_INLINE void tile(Base base, const RowPointers<T>& rows, const Strip<T>& b, Index at, Range k,
                       const T* base_row, Ahead ahead) {
  Vec<T> sum[R][N];
  if (base == Base::zero) {
    load_sums<Base::zero, true, R, N, first, T>(sum, rows, b, at, base_row);
  } else if (base == Base::row) {
    if (b.whole) {
      load_sums<Base::row, true, R, N, first, T>(sum, rows, b, at, base_row);
    } else {
      load_sums<Base::row, false, R, N, first, T>(sum, rows, b, at, base_row);
    }
  } else if (b.whole) {
    load_sums<Base::self, true, R, N, first, T>(sum, rows, b, at, base_row);
  } else {
    load_sums<Base::self, false, R, N, first, T>(sum, rows, b, at, base_row);
  }

  // Not left a loop: GCC would add pointers as vectors, which wait in the queue of the vector units until the
  // products of the tile before this one are done.
  const T* a[R];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) a[r] = rows.a[r] + k.first * rows.step;
  add_lines<R, N, first, T>(
      sum, a, rows.step,
      Lines<T>{b.line + at * b.next_panel + k.first * b.next_line, b.next_line, b.next_panel},
      k.size(), ahead, [](int v) { return v; });

  if (b.whole) {
    store_sums<true, R, N, first, T>(sum, rows, b, at);
  } else {
    store_sums<false, R, N, first, T>(sum, rows, b, at);
  }
}

// Up to four panels in tiles of R rows. Calls f(std::integral_constant<int, vectors>,
// std::integral_constant<int, first vector>, panel of vector 0).
template <int R, class F>
PYRNN_INLINE void for_panels(Index panels, F f) {
  constexpr int V = panel_vectors, P = tile_panels<R>;
  using Zero = std::integral_constant<int, 0>;
  if constexpr (few_sums && R == 4) {
    // Four rows by one and a half panels have as many sums as six by one.
    if (panels == 4) {
      f(std::integral_constant<int, 3>(), Zero(), 0);
      f(std::integral_constant<int, 3>(), std::integral_constant<int, 1>(), 1);
      return f(std::integral_constant<int, 2>(), Zero(), 3);
    }
  }
  Index at = 0;
  for (; at + P <= panels; at += P) f(std::integral_constant<int, P * V>(), Zero(), at);
  if constexpr (P == 4) {
    if (at + 3 <= panels) return f(std::integral_constant<int, 3 * V>(), Zero(), at);
    if (at + 2 <= panels) return f(std::integral_constant<int, 2 * V>(), Zero(), at);
  }
  if constexpr (P > 1) {
    if (at < panels) f(std::integral_constant<int, V>(), Zero(), at);
  }
}

// One function for each R, whose tiles follow each other in a loop: what a call costs is paid once a strip.
template <int R, class T>
__attribute__((noinline)) void tile_strip(Base base, const RowPointers<T>& rows, const Strip<T>& b,
                                          Index panels, Range k, const T* base_row, Ahead ahead) {
  for_panels<R>(panels, [&](auto vectors, auto first, Index at) __attribute__((always_inline)) {
    tile<R, decltype(vectors)::value, decltype(first)::value>(base, rows, b, at, k, base_row,
                                                              ahead);
  });
}

// Lines of more come more slowly than the sums of one strip can take them, and best as one stream.
constexpr Index most_paired_bytes = 128 * 1024;

// One row by N panels of each of two strips, all of them whole: 4 sums are too few for processors that start two
// multiply-adds of whole lines in a cycle, and 2 or 3 for all.
template <int N, class T>
PYRNN_INLINE void tile_pair(Base base, const RowPointers<T>& rows, const Strip<T>& first,
                            const Strip<T>& second, Range k, const T* base_row) {
  T* const c = rows.c[0];
  const T* const from = base == Base::row ? base_row : c;
  const auto column = [&](int v) { return v < N ? first.column[v] : second.column[v - N]; };
  Vec<T> sum[1][2 * N];
#pragma GCC unroll 8
  for (int v = 0; v < 2 * N; ++v) {
    sum[0][v] = base == Base::zero ? Vec<T>{} : load(from + column(v));
  }
  const T* const a[] = {rows.a[0] + k.first * rows.step};
  const T* lines[] = {first.line + k.first * first.next_line,
                      second.line + k.first * second.next_line};
  Index element = 0;
#pragma GCC unroll 2
  for (Index n = k.size(); n > 0; --n) {
    multiply_line<1, 2 * N, T>(
        sum, a, element, [&](int v) { return load(lines[v / N] + v % N * panel_width<T>); },
        [](int v) { return v; });
    lines[0] += first.next_line;
    lines[1] += second.next_line;
    element += rows.step;
  }
#pragma GCC unroll 8
  for (int v = 0; v < 2 * N; ++v) store(c + column(v), sum[0][v]);
}

// Of two strips with as many panels. False where it is not for them.
template <class T>
__attribute__((noinline)) bool tile_strip_pair(Base base, const RowPointers<T>& rows,
                                               const Strip<T>& first, const Strip<T>& second,
                                               Index panels, Range k, const T* base_row) {
  if (!first.whole || !second.whole) return false;
  switch (panels) {
    case 2:
      tile_pair<2>(base, rows, first, second, k, base_row);
      return true;
    case 3:
      tile_pair<3>(base, rows, first, second, k, base_row);
      return true;
    case 4:
      tile_pair<4>(base, rows, first, second, k, base_row);
      return true;
    default:
      return false;
  }
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
