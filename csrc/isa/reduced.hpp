// C = base + A W^T with W and A of reduced precision, C in float32. `Format` says which precision: how a
// float is rounded, and how words are multiplied and summed.
//
// A word holds `per_word` values of neighbouring k, so that a line of a panel is 16 columns of one word each,
// whatever the format and the ISA. An element of C is one chain over ascending k, as in gemm.hpp.
#pragma once

#include "../precision.hpp"
#include "gemm.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

// g++ names it so, and clang, once, otherwise.
#if defined(__AMX_TILE__) || defined(__AMXTILE__)
#define PYRNN_TILES 1
#endif

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Format>
constexpr int per_word = static_cast<int>(sizeof(Word) / sizeof(typename Format::Value));

// Words of a row come in as many: tiles take 16 at once.
#if defined(PYRNN_TILES)
constexpr Index words_at_once = 16;
#else
constexpr Index words_at_once = 1;
#endif

template <class Format>
PYRNN_INLINE Index words_of(Index depth) {
  return ceil_div(depth, per_word<Format> * words_at_once) * words_at_once;
}

// --- rows of floats into words ---------------------------------------------------------------------------

// The low bits of each lane. GCC takes the lanes out one by one where it could use one instruction.
template <class Values, class V>
PYRNN_INLINE Values narrow(V v) {
#if defined(__AVX512F__)
  if constexpr (sizeof(v) / sizeof(Values) == 4) {
    return bit_cast<Values>(_mm512_maskz_cvtepi32_epi8(0xffff, bit_cast<__m512i>(v)));
  } else {
    return bit_cast<Values>(_mm512_maskz_cvtepi32_epi16(0xffff, bit_cast<__m512i>(v)));
  }
#else
  return __builtin_convertvector(v, Values);
#endif
}

// n values, rounded, into words_of(n) words, the earlier k in the lower bits, padded with zeros.
template <class Format>
void encode(const float* a, Index n, typename Format::Scale scale, Word* words) {
  using Value = typename Format::Value;
  typedef Value Values __attribute__((vector_size(lanes<float> * sizeof(Value))));
  char* const to = reinterpret_cast<char*>(words);
  for_lanes<float>(0, words_of<Format>(n) * per_word<Format>, [&](const auto& at) {
    const Index left = n - at.unit;
    const Vec<float> x = left >= lanes<float> ? load(a + at.unit)
                         : left > 0           ? load_partial(a + at.unit, static_cast<int>(left))
                                              : Vec<float>{};
    const auto values = Format::template narrowed<Values>(x, scale);
    std::memcpy(to + at.unit * Index(sizeof(Value)), &values,
                static_cast<std::size_t>(at.n) * sizeof(Value));
  });
}

// A row of A as the product wants it: the header, then its words, each as all of its planes, then what Format keeps beside
// them.
template <class Format>
Index operand_words(Index depth) {
  const Index words =
      Format::operand_header + (Format::planes + Format::beside()) * words_of<Format>(depth);
  // Rows of whole lines: those of a tile are read at once.
  if constexpr (words_at_once > 1) return spread(words / words_at_once) * words_at_once;
  return words;
}

// The values of two vectors in turn.
template <class T, class At>
PYRNN_INLINE void store_pairs(const At& at, T* to, Vec<T> first, Vec<T> second) {
  interleave<T>(first, second);
  T* const pairs = to + 2 * at.unit;
  if (at.n == lanes<T>) {
    store(pairs, first);
    store(pairs + lanes<T>, second);
    return;
  }
  store_partial(pairs, first, static_cast<int>(min(2 * at.n, lanes<T>)));
  if (2 * at.n > lanes<T>) store_partial(pairs + lanes<T>, second, 2 * at.n - lanes<T>);
}

// a [depth] into operand [operand_words(depth)].
template <class Format>
void prepare(const float* a, Index depth, Word* operand) {
  const typename Format::Scale scale = Format::scale_of(a, depth);
  Format::store_operand_header(scale, operand);
  const Index words = words_of<Format>(depth);
  Word* const to = operand + Format::operand_header;
  // Each is read before its planes are written, up to there.
  Word* const from = to + (Format::planes - 1) * words;
  encode<Format>(a, depth, scale, from);
  for_lanes<Word>(0, words, [&](const auto& at) {
    const Vec<Word> all = at.load(from);
    if constexpr (Format::planes == 2) {
      store_pairs(at, to, Format::template operand_plane<0>(all),
                  Format::template operand_plane<1>(all));
    } else {
      at.store(to, Format::operand(all));
    }
  });
}

// --- packed W --------------------------------------------------------------------------------------------

// W^T, W [groups * columns, depth]: [panel][line][panel_width], the lines of a panel being its header's and
// then words_of(depth); behind the panels, the trailer's lines. Panels alternate between the groups as in Panels, and so
// do the columns of C.
template <class Format>
struct ReducedPanels : ReducedMatrix {
  explicit ReducedPanels(const ReducedMatrix& matrix) : ReducedMatrix(matrix) {}

  PYRNN_INLINE Index count() const { return groups * panels_of<Word>(columns); }
  PYRNN_INLINE Index lines() const { return Format::header + words_of<Format>(depth); }
  // Words of all lines.
  PYRNN_INLINE Index size() const {
    return (count() * lines() + Format::trailer) * panel_width<Word>;
  }
  PYRNN_INLINE Word* panel(Index p) const { return data + p * lines() * panel_width<Word>; }
  PYRNN_INLINE Word* trailer() const { return panel(count()); }
  PYRNN_INLINE Index column(Index p) const { return start[p % groups] + p / groups * step; }
  // Columns of panel p that exist in W^T.
  PYRNN_INLINE int width(Index p) const {
    const Index left = columns - p / groups * panel_width<Word>;
    return static_cast<int>(min(left, panel_width<Word>));
  }
  // Columns of C that panel p fills.
  PYRNN_INLINE int filled(Index p) const { return padded ? panel_width<Word> : width(p); }
  // The first row of W of panel p.
  PYRNN_INLINE Index row(Index p) const {
    return p % groups * columns + p / groups * panel_width<Word>;
  }
};

// Panels [first, last) of w [groups * columns, depth]; columns that fill the last panel are zeros.
template <class Format>
void pack_reduced(const ReducedMatrix& matrix, const float* w, Index first, Index last) {
  const ReducedPanels<Format> b(matrix);
  constexpr Index width = panel_width<Word>, most_words = 64,
                  at_once = most_words * per_word<Format>;
  for (Index p = first; p < last; ++p) {
    Word* const panel = b.panel(p);
    fill(panel, {0, b.lines() * width}, Word(0));
    for (int column = 0; column < b.width(p); ++column) {
      const float* const row = w + (b.row(p) + column) * b.depth;
      const typename Format::Scale scale = Format::scale_of(row, b.depth);
      Word* const to = panel + Format::header * width + column;
      for (Index k = 0; k < b.depth; k += at_once) {
        Word words[most_words];
        const Index n = min(at_once, b.depth - k);
        encode<Format>(row + k, n, scale, words);
        for (Index i = 0; i < words_of<Format>(n); ++i) {
          to[(k / per_word<Format> + i) * width] = words[i];
        }
      }
      Format::store_header(scale, panel + column, b.lines());
    }
  }
  if constexpr (Format::trailer > 0) {
    if (first < last && last == b.count()) {
      Format::store_trailer(w, b.groups * b.columns * b.depth, b.trailer());
    }
  }
}

// --- the product -----------------------------------------------------------------------------------------

PYRNN_INLINE const Word* operand_of(const ReducedRows& rows, Index r) {
  return rows.a + r * rows.stride;
}

// Most rows of a tile. 16 registers hold 6 x 2 sums beside 2 vectors of W and a broadcast. The narrowest vectors are for
// processors of long ago: 4 will do.
constexpr int reduced_rows = vector_registers == 32 || vector_bytes == 32 ? 6 : 4;

// Vectors side by side. Of vdpbf16ps one starts in each cycle and takes 6, so one row takes 8 vectors. More
// rows take 4 where the sums fit beside the planes of 4 vectors, a broadcast and a constant.
template <class Format, int R>
constexpr int reduced_vectors() {
  if (R <= 2) return R == 1 ? 8 : 4;
  return R * 4 + Format::weight_planes * 4 + 2 <= vector_registers ? 4 : 2;
}

// What a tile of three rows or more holds of W for all of them: a plane of its words.
template <class Format>
struct HoldsPlanes {
  using Held = Vec<Word>;

  template <int part>
  PYRNN_INLINE static Held held(const Word* words) {
    Vec<Word> plane = Format::template plane<part>(load(words));
    keep(plane);
    return plane;
  }
};

// A word of a row of A, as each of its planes.
template <class Format>
PYRNN_INLINE void splat_planes(Vec<Word> (&x)[Format::planes], const Word* a) {
#pragma GCC unroll 2
  for (int plane = 0; plane < Format::planes; ++plane) x[plane] = splat(a[plane]);
}

// Words of W as its planes.
template <class Format>
PYRNN_INLINE void spread(Vec<Word> (&w)[Format::weight_planes], Vec<Word> words) {
  w[0] = Format::template plane<0>(words);
  if constexpr (Format::weight_planes == 2) w[1] = Format::template plane<1>(words);
}

// R rows by P panels of W vectors each, from vector v0 of panel p on. Without a base row, C is the base.
template <class Format, int R, int P, int W>
PYRNN_INLINE void reduced_tile(const ReducedRows& rows, const ReducedPanels<Format>& b, Index p,
                               int v0, const float* base_row) {
  constexpr int N = P * W, planes = Format::planes, weights = Format::weight_planes;
  const Index stride = b.lines() * panel_width<Word>, words = words_of<Format>(b.depth);
  const Word* const head = b.panel(p) + v0 * lanes<Word>;
  // Vector i of the tile, in the first line.
  const auto place = [&](int i) { return i / W * stride + i % W * lanes<Word>; };

  typename Format::Sum sum[R][N];
#pragma GCC unroll 8
  for (int i = 0; i < N; ++i) {
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum[r][i] = Format::start(head + place(i));
  }

  const Word* a[R];
  for (int r = 0; r < R; ++r) a[r] = operand_of(rows, r) + Format::operand_header;
  // Where a line is more than a vector, hidden: a compiler would keep one register for the place of each vector, since it
  // is that of its header too.
  constexpr bool apart = panel_vectors > 1;
  const Word* line[apart ? P : 1];
#pragma GCC unroll 4
  for (int j = 0; j < (apart ? P : 1); ++j) {
    const Word* start = head + Format::header * panel_width<Word> + j * stride;
    if constexpr (apart) asm("" : "+r"(start));
    line[j] = start;
  }
  Index at = 0;
  const auto words_at = [&](int i) __attribute__((always_inline)) {
    return apart ? line[i / W] + at + i % W * lanes<Word> : line[0] + place(i);
  };
  const auto next_line = [&]() __attribute__((always_inline)) {
    apart ? void(at += panel_width<Word>) : void(line[0] += panel_width<Word>);
  };
  if constexpr (R <= 2) {
    for (Index k = 0; k < words; ++k, next_line()) {
      Vec<Word> x[R][planes];
#pragma GCC unroll 2
      for (int r = 0; r < R; ++r) splat_planes<Format>(x[r], a[r] + k * planes);
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i) {
        Vec<Word> w[weights];
        spread<Format>(w, load(words_at(i)));
        if constexpr (R > 1) keep(w[0]);
#pragma GCC unroll 2
        for (int r = 0; r < R; ++r) {
#pragma GCC unroll 2
          for (int part = 0; part < weights; ++part) {
            sum[r][i] = Format::add(sum[r][i], w[part], x[r] + part);
          }
        }
      }
    }
  } else {
    // One plane of W after the other: of both there would be too many registers.
    const auto add_plane = [&](Index k, auto part_constant) __attribute__((always_inline)) {
      constexpr int part = decltype(part_constant)::value, each = planes / weights;
      typename Format::Held w[N];
#pragma GCC unroll 8
      for (int i = 0; i < N; ++i) w[i] = Format::template held<part>(words_at(i));
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        Vec<Word> x[each];
#pragma GCC unroll 2
        for (int n = 0; n < each; ++n) x[n] = splat(a[r][k * planes + part + n]);
#pragma GCC unroll 8
        for (int i = 0; i < N; ++i) sum[r][i] = Format::add(sum[r][i], w[i], x);
      }
    };
    for (Index k = 0; k < words; ++k, next_line()) {
      add_plane(k, std::integral_constant<int, 0>());
      if constexpr (weights == 2) add_plane(k, std::integral_constant<int, 1>());
    }
  }

  const auto finish = [&](int r, int i, typename Format::Sum of, const Vec<float>& before) {
    return Format::result(before, of, head + place(i), operand_of(rows, r));
  };
  // Panels to the right are the ones that may be narrow.
  if (b.filled(p + P - 1) == panel_width<Word>) {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) {
      const Index column = b.column(p + i / W) + (v0 + i % W) * lanes<Word>;
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) {
        float* const c = rows.c[r] + column;
        store(c, finish(r, i, sum[r][i], load(base_row == nullptr ? c : base_row + column)));
      }
    }
    return;
  }
  // The sums leave the registers, so that this is a loop and not R * N copies of code.
  typename Format::Sum sums[R][N];
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r) {
#pragma GCC unroll 8
    for (int i = 0; i < N; ++i) sums[r][i] = sum[r][i];
  }
#pragma GCC unroll 1
  for (int i = 0; i < N; ++i) {
    const Index column = b.column(p + i / W);
    const int width = b.filled(p + i / W), v = v0 + i % W;
#pragma GCC unroll 1
    for (int r = 0; r < R; ++r) {
      float* const c = rows.c[r] + column;
      const Vec<float> before = load_line(base_row == nullptr ? c : base_row + column, v, width);
      store_line(c, v, width, finish(r, i, sums[r][i], before));
    }
  }
}

// P panels at once while there are as many, then fewer.
template <class Format, int R, int W, int P>
void reduced_panels(const ReducedRows& rows, const ReducedPanels<Format>& b, Index first,
                    Index last, const float* base_row) {
  Index p = first;
  for (; p + P <= last; p += P) {
    for (int v = 0; v < panel_vectors; v += W) {
      reduced_tile<Format, R, P, W>(rows, b, p, v, base_row);
    }
  }
  if (p == last) return;
  if constexpr (P == 4) {
    if (p + 3 == last) return reduced_panels<Format, R, W, 3>(rows, b, p, last, base_row);
  }
  if constexpr (P > 1) reduced_panels<Format, R, W, P / 2>(rows, b, p, last, base_row);
}

template <class Format, int R = reduced_rows>
void reduced_tile_of(Index n, const ReducedRows& rows, const ReducedPanels<Format>& b, Index first,
                     Index last, const float* base_row) {
  if constexpr (R > 1) {
    if (n < R) return reduced_tile_of<Format, R - 1>(n, rows, b, first, last, base_row);
  }
  constexpr int N = reduced_vectors<Format, R>(), W = N < panel_vectors ? N : panel_vectors;
  reduced_panels<Format, R, W, N / W>(rows, b, first, last, base_row);
}

template <class Format>
void multiply_reduced(Index count, const ReducedRows& rows, const ReducedMatrix& matrix,
                      Index first, Index last, const float* base_row) {
  if (count == 0 || first >= last) return;
  const ReducedPanels<Format> b(matrix);
  const Index tiles = ceil_div(count, reduced_rows);
  // All rows pass over a few panels, as many as a tile takes, which come from L2 once in each tile.
  const Index some = tiles == 1 ? last - first : ceil_div(4, panel_vectors);
  for (Index p = first; p < last; p += some) {
    Index row = 0;
    for (Index i = 0; i < tiles; ++i) {
      const Index n = (count - row) / (tiles - i);
      reduced_tile_of(n, {operand_of(rows, row), rows.stride, rows.c + row}, b, p,
                      min(last, p + some), base_row);
      row += n;
    }
  }
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
