// C = base + A W^T of reduced precision on the tiles of AMX: one instruction adds to 16 x 16 sums the products of
// 16 rows of A and 16 lines of a panel, both as they lie in memory.
//
// Of bfloat16, the sums begin with the base, and the earlier and the later values of 16 words are a chain each, which
// join them after those words: the same chain for every row, however many there are.
#pragma once

#include "reduced.hpp"

#if defined(PYRNN_TILES)

namespace pyrnn::avx512_vnni {
extern const Precision precisions[];  // int8
}

namespace pyrnn::PYRNN_ISA {
namespace {

constexpr Index rows_of_a_tile = 16;

// Whether a tile of C holds results, and not what is still to be scaled.
template <class Format>
constexpr bool adds_to_base = std::is_same_v<typename Format::Sum, Vec<float>>;

// Shapes of the eight tiles: sums are 0 to 3, a block of rows of A is 4, lines of a panel are 5 to 7. For two blocks of
// rows, a second one is 5, and its sums are 2 and 3.
struct alignas(64) TileShapes {
  std::uint8_t palette = 1, start_row = 0, reserved[14] = {};
  std::uint16_t bytes_of_line[16] = {};
  std::uint8_t lines[16] = {};

  TileShapes(Index first, Index second) {
    const Index other = second > 0 ? second : first, fifth = second > 0 ? second : rows_of_a_tile;
    const Index each[8] = {first, first, other,          other,
                           first, fifth, rows_of_a_tile, rows_of_a_tile};
    for (int tile = 0; tile < 8; ++tile) {
      bytes_of_line[tile] = line_bytes;
      lines[tile] = static_cast<std::uint8_t>(each[tile]);
    }
  }

  void load() const {
    asm volatile("" ::: "memory");  // g++ takes only the first word for read
    _tile_loadconfig(this);
  }
};

// Rows that this thread's tiles have the shapes for; 0: none. To load shapes takes as long as a dozen products.
inline Index& shaped_rows() {
  static thread_local Index rows = 0;
  return rows;
}

// A thread that keeps tiles has them saved with its registers whenever another one runs.
inline void leave_tiles() {
  Index& shaped = shaped_rows();
  if (shaped > 0) _tile_release();
  shaped = 0;
}

// Where the sums of a tile begin and where they go: rows, as many bytes apart.
struct TileSums {
  const char* from;
  long next_from;
  char* to;
  long next_to;
};

// A block of rows of A, and panels.
struct TileOperands {
  const char* a;
  long next_row;  // bytes
  const char* w;
  long next_panel;
  Index steps;  // of 16 words
};

constexpr long tile_bytes = rows_of_a_tile * line_bytes;

// The numbers of tiles are parts of the instructions.
#define PYRNN_START_TILE(tile) _tile_loadd(tile, sums[tile].from, sums[tile].next_from)
#define PYRNN_ADD_TILE(sums, a, w)         \
  do {                                     \
    if constexpr (per_word<Format> == 2) { \
      _tile_dpbf16ps(sums, a, w);          \
    } else {                               \
      _tile_dpbusd(sums, a, w);            \
    }                                      \
  } while (false)
#define PYRNN_STORE_TILE(tile) _tile_stored(tile, sums[tile].to, sums[tile].next_to)

// `columns` tiles of one block of rows, or as many of each of two.
template <int columns, bool two>
PYRNN_INLINE void start_tiles(const TileSums (&sums)[4]) {
  asm volatile(
      "" ::
          : "memory");  // g++ does not know that tiles read memory: what they read has to be there
  PYRNN_START_TILE(0);
  if constexpr (columns > 1) PYRNN_START_TILE(1);
  if constexpr (two || columns > 2) PYRNN_START_TILE(2);
  if constexpr (columns > (two ? 1 : 3)) PYRNN_START_TILE(3);
}

template <int columns, bool two>
PYRNN_INLINE void store_tiles(const TileSums (&sums)[4]) {
  PYRNN_STORE_TILE(0);
  if constexpr (columns > 1) PYRNN_STORE_TILE(1);
  if constexpr (two || columns > 2) PYRNN_STORE_TILE(2);
  if constexpr (columns > (two ? 1 : 3)) PYRNN_STORE_TILE(3);
}

// Lines of panels are not kept in the first-level cache, where they would take the place of the rows of A: those are
// read for all panels.
//
// One block of rows by P panels. Panel j adds to tile j; where they are `apart`, the last of three to tile 3.
template <class Format, int P, bool apart = false>
PYRNN_INLINE void add_tiles(TileOperands of) {
  for (Index step = 0; step < of.steps; ++step) {
    _tile_loadd(4, of.a, of.next_row);
    _tile_stream_loadd(5, of.w, line_bytes);
    PYRNN_ADD_TILE(0, 4, 5);
    if constexpr (P > 1) {
      _tile_stream_loadd(6, of.w + of.next_panel, line_bytes);
      PYRNN_ADD_TILE(1, 4, 6);
    }
    if constexpr (P > 2) {
      _tile_stream_loadd(7, of.w + 2 * of.next_panel, line_bytes);
      if constexpr (apart) {
        PYRNN_ADD_TILE(3, 4, 7);
      } else {
        PYRNN_ADD_TILE(2, 4, 7);
      }
    }
    if constexpr (P > 3) {
      _tile_stream_loadd(5, of.w + 3 * of.next_panel, line_bytes);
      PYRNN_ADD_TILE(3, 4, 5);
    }
    of.a += line_bytes;
    of.w += tile_bytes;
  }
}

// Two blocks of rows, the second `second` bytes on, by one or two panels. The first block adds to tiles 0 and 1, the
// second to 2 and 3; with one panel `apart`, to 1 and 3.
template <class Format, int P, bool apart = false>
PYRNN_INLINE void add_tiles_of_two(TileOperands of, long second) {
  for (Index step = 0; step < of.steps; ++step) {
    _tile_stream_loadd(6, of.w, line_bytes);
    _tile_loadd(4, of.a, of.next_row);
    _tile_loadd(5, of.a + second, of.next_row);
    if constexpr (apart) {
      PYRNN_ADD_TILE(1, 4, 6);
      PYRNN_ADD_TILE(3, 5, 6);
    } else {
      PYRNN_ADD_TILE(0, 4, 6);
      PYRNN_ADD_TILE(2, 5, 6);
    }
    if constexpr (P > 1) {
      _tile_stream_loadd(7, of.w + of.next_panel, line_bytes);
      PYRNN_ADD_TILE(1, 4, 7);
      PYRNN_ADD_TILE(3, 5, 7);
    }
    of.a += line_bytes;
    of.w += tile_bytes;
  }
}

#undef PYRNN_START_TILE
#undef PYRNN_ADD_TILE
#undef PYRNN_STORE_TILE

// Where the sums of a panel belong: the column of C, how many from there on, and what scales them.
struct TileColumn {
  Index column;
  int width;
  const Word* head;
};

// The rows of C in tiles.
template <class Format>
class TileRows {
 public:
  TileRows(const ReducedRows& rows, const float* base_row) : rows_(rows), base_row_(base_row) {}

  // Whether rows [first, last) lie one distance apart, so that a tile can be read and written there.
  void look_at(Range of) {
    const auto gap = [&](Index r) {
      return reinterpret_cast<const char*>(rows_.c[r + 1]) -
             reinterpret_cast<const char*>(rows_.c[r]);
    };
    next_row_ = of.size() > 1 ? gap(of.first) : line_bytes;
    apart_ = true;
    for (Index r = of.first + 1; r + 1 < of.last; ++r) apart_ = apart_ && gap(r) == next_row_;
  }

  // Sums of `count` rows from `first` on. In place where they can be, else in `buffer` [16, 16].
  PYRNN_INLINE TileSums start(const TileColumn& of, Index first, Index count, char* buffer) const {
    if constexpr (!adds_to_base<Format>) {
      return {reinterpret_cast<const char*>(of.head + panel_width<Word>), 0, buffer, line_bytes};
    } else {
      if (in_place(of)) {
        char* const c = reinterpret_cast<char*>(rows_.c[first] + of.column);
        if (base_row_ == nullptr) return {c, next_row_, c, next_row_};
        return {reinterpret_cast<const char*>(base_row_ + of.column), 0, c, next_row_};
      }
      for (Index i = 0; i < count; ++i) {
        const float* const from = base_row_ == nullptr ? rows_.c[first + i] : base_row_;
        const Vec<float> base = load_line(from + of.column, 0, of.width);
        std::memcpy(buffer + i * line_bytes, &base, sizeof(base));
      }
      return {buffer, line_bytes, buffer, line_bytes};
    }
  }

  // What is left to do once the sums are in `buffer`.
  PYRNN_INLINE void finish(const TileColumn& of, Index first, Index count,
                           const char* buffer) const {
    if (in_place(of)) return;
    if (of.width == panel_width<Word>) {
      finish_lines(of, first, count, panel_width<Word>, buffer);
    } else {
      finish_lines(of, first, count, of.width, buffer);
    }
  }

 private:
  PYRNN_INLINE void finish_lines(const TileColumn& of, Index first, Index count, int width,
                                 const char* buffer) const {
    for (Index r = first; r < first + count; ++r, buffer += line_bytes) {
      typename Format::Sum sum;
      std::memcpy(&sum, buffer, sizeof(sum));
      float* const c = rows_.c[r] + of.column;
      if constexpr (!adds_to_base<Format>) {
        const float* const base = base_row_ == nullptr ? c : base_row_ + of.column;
        const Vec<float> before = load_line(base, 0, width);
        store_line(c, 0, width, Format::result(before, sum, of.head, operand_of(rows_, r)));
      } else {
        store_line(c, 0, width, sum);
      }
    }
  }

  PYRNN_INLINE bool in_place(const TileColumn& of) const {
    return adds_to_base<Format> && apart_ && of.width == panel_width<Word>;
  }

  const ReducedRows& rows_;
  const float* const base_row_;
  long next_row_ = 0;
  bool apart_ = false;
};

// One of the products whose sums are in the same tiles.
template <class Format>
struct TileProduct {
  const ReducedRows& rows;
  ReducedPanels<Format> b;

  long next_row() const { return rows.stride * long(sizeof(Word)); }
  TileOperands at(Index row, Index p) const {
    return {reinterpret_cast<const char*>(operand_of(rows, row) + Format::operand_header),
            next_row(),
            reinterpret_cast<const char*>(b.panel(p) + Format::header * panel_width<Word>),
            b.lines() * line_bytes, words_of<Format>(b.depth) / words_at_once};
  }
};

// Calls f(std::integral_constant<int, n>) for n in 1 to 4.
template <class F>
PYRNN_INLINE void with_panels(Index n, F f) {
  switch (n) {
    case 1:
      return f(std::integral_constant<int, 1>());
    case 2:
      return f(std::integral_constant<int, 2>());
    case 3:
      return f(std::integral_constant<int, 3>());
    default:
      return f(std::integral_constant<int, 4>());
  }
}

// Of rows [row, row + upper) and the `lower` ones below them, and P panels from `p` on: sums of `product` and, with
// `both`, of `second`. What is `apart` has one more column of tiles, of the last panel of `second` alone.
template <class Format, int P, bool both, bool apart>
void tile_group(const TileRows<Format>& c, const TileProduct<Format>& product,
                const TileProduct<Format>& second, const TileColumn* columns, Index row,
                Index upper, Index lower, Index p) {
  constexpr int count = apart ? P + 1 : P;
  alignas(line_bytes) char buffer[4 * tile_bytes];
  TileSums sums[4];
  const auto for_blocks_of_rows = [&](auto f) {
    f(row, upper, 0);
    if constexpr (count <= 2) {
      if (lower > 0) f(row + upper, lower, 2);
    }
  };
  for_blocks_of_rows([&](Index first, Index n, int tile) {
    for (int j = 0; j < count; ++j) {
      sums[tile + j] = c.start(columns[j], first, n, buffer + (tile + j) * tile_bytes);
    }
  });
  if (lower == 0) {
    start_tiles<count, false>(sums);
    add_tiles<Format, P>(product.at(row, p));
    if constexpr (both) add_tiles<Format, P, apart>(second.at(row, p));
    store_tiles<count, false>(sums);
  } else if constexpr (count <= 2) {
    start_tiles<count, true>(sums);
    add_tiles_of_two<Format, P>(product.at(row, p), upper * product.next_row());
    if constexpr (both) {
      add_tiles_of_two<Format, P, apart>(second.at(row, p), upper * second.next_row());
    }
    store_tiles<count, true>(sums);
  }
  for_blocks_of_rows([&](Index first, Index n, int tile) {
    for (int j = 0; j < count; ++j) {
      c.finish(columns[j], first, n, buffer + (tile + j) * tile_bytes);
    }
  });
}

// Over `count` rows and panels [first, last). `second` counts with `both`; of what stands apart there, panels are whole
// units.
template <class Format, bool both>
void multiply_in_tiles(Index count, const TileProduct<Format>& product,
                       const TileProduct<Format>& second, Index first, Index last,
                       const float* base_row) {
  if (count == 0 || first >= last) return;
  const ReducedPanels<Format>& b = product.b;
  TileRows<Format> c(product.rows, base_row);
  const int groups = b.groups;
  const bool apart = both && b.start[groups - 1] != second.b.start[groups - 1];
  const Index panels_at_once = apart ? groups : 4, blocks = ceil_div(count, 2 * rows_of_a_tile);
  Index& shaped = shaped_rows();
  using Apart = std::bool_constant<both>;  // where it can be
  Index unit = first / groups;
  int group = static_cast<int>(first % groups);
  // All rows pass over a few panels.
  for (Index p = first, panels; p < last; p += panels) {
    panels = min(last - p, panels_at_once);
    TileColumn columns[5];
    for (Index j = 0; j < panels; ++j) {
      const Index left = b.columns - unit * panel_width<Word>;
      const int width =
          static_cast<int>(b.padded ? panel_width<Word> : min(left, panel_width<Word>));
      columns[j] = {b.start[group] + unit * b.step, width, b.panel(p + j)};
      if (apart) columns[j + 1] = {second.b.start[group] + unit * b.step, width, nullptr};
      if (++group == groups) {
        group = 0;
        ++unit;
      }
    }
    for (Index block = 0, row = 0, n; block < blocks; ++block, row += n) {
      n = (count - row) / (blocks - block);
      const Index upper = n > rows_of_a_tile ? ceil_div(n, 2) : n, lower = n - upper;
      if (n != shaped) TileShapes(upper, lower).load();
      shaped = n;
      if (blocks > 1 || p == first) c.look_at({row, row + n});
      const auto add = [&](auto panels_constant, auto apart_constant, Index from) {
        tile_group<Format, decltype(panels_constant)::value, both, decltype(apart_constant)::value>(
            c, product, second, columns + from, row, upper, lower, p + from);
      };
      if (lower > 0) {
        const Index joint = apart ? panels - 1 : panels;
        for (Index j = 0; j < joint; j += 2) {
          if (j + 2 <= joint) {
            add(std::integral_constant<int, 2>(), std::false_type(), j);
          } else {
            add(std::integral_constant<int, 1>(), std::false_type(), j);
          }
        }
        if (apart) add(std::integral_constant<int, 1>(), Apart(), joint);
      } else if (apart) {
        add(std::integral_constant<int, 3>(), Apart(), 0);
      } else {
        with_panels(panels, [&](auto some) { add(some, std::false_type(), 0); });
      }
    }
  }
}

// An instruction on tiles takes as long for one row as for 16: with a few rows, those on vectors add up int8 sooner,
// and to the same sums.
constexpr Index rows_by_vectors = 3;

// Those of the instruction set that has them. To it, words that fill up tiles are depth, and an operand's header is its
// last word.
template <class Format>
void multiply_by_vectors(Index count, const ReducedRows& rows, const ReducedMatrix& matrix,
                         Index first, Index last, const float* base_row) {
  ReducedMatrix b = matrix;
  b.depth = words_of<Format>(b.depth) * per_word<Format>;
  avx512_vnni::precisions[0].multiply(
      count, {rows.a + Format::operand_header - 1, rows.stride, rows.c}, b, first, last, base_row);
}

template <class Format>
void multiply_tiles(Index count, const ReducedRows& rows, const ReducedMatrix& matrix, Index first,
                    Index last, const float* base_row) {
  if constexpr (!adds_to_base<Format>) {
    if (count <= rows_by_vectors) {
      return multiply_by_vectors<Format>(count, rows, matrix, first, last, base_row);
    }
  }
  const TileProduct<Format> product{rows, ReducedPanels<Format>(matrix)};
  multiply_in_tiles<Format, false>(count, product, product, first, last, base_row);
}

template <class Format>
void multiply_both_tiles(Index count, const ReducedRows& x, const ReducedMatrix& w_ih,
                         const ReducedRows& h, const ReducedMatrix& w_hh, Index first, Index last,
                         const float* base_row) {
  multiply_in_tiles<Format, true>(count, {x, ReducedPanels<Format>(w_ih)},
                                  {h, ReducedPanels<Format>(w_hh)}, first, last, base_row);
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA

#endif
