// C[r][n] = base[n] + sum_k A[r][k] B[k][n], B packed in panels one cache line wide.
//
// The only accumulation in the kernels. An element of C is one chain of fused operations over ascending
// k, whatever the tile, the thread or the batch it is computed in: results depend on none of them.
#pragma once

#include "tile.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

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
  Strip<T> strip, second;
  Strips<T> strips(b, first, last);
  while (const Index panels = strips.next(strip)) {
    Index more = 0;
    if constexpr (R == 1 && most_bundled > 1) {
      if (b.size() * Index(sizeof(T)) <= most_paired_bytes) more = strips.next(second);
      if (more == panels && tile_strip_pair(base, rows, strip, second, panels, k, base_row)) {
        continue;
      }
    }
    tile_strip<R>(base, rows, strip, panels, k, base_row, Ahead{});
    if (more > 0) tile_strip<R>(base, rows, second, more, k, base_row, Ahead{});
  }
}

// Rows of the first of the tiles that `rows` are cut into: balanced, 16 are 6 + 5 + 5, not 6 + 6 + 4. Where two
// vectors make a line, a tile of 4 rows has 8 sums, two fewer than keep the units busy whose fused multiply-add takes
// 5 cycles, while 5 rows have 10, and 3 rows and two panels 12: 8 are 5 + 3.
PYRNN_INLINE Index next_tile(Index rows) {
  if constexpr (few_sums) {
    if (rows == 7 || rows == 8) return 5;
    if (rows == 9) return 6;
  }
  return ceil_div(rows, ceil_div(rows, tile_rows));
}

// Of those tiles the one of fewest rows.
PYRNN_INLINE Index smallest_tile(Index rows) {
  Index smallest = rows;
  for (Index n; rows > 0; rows -= n) {
    n = next_tile(rows);
    smallest = min(smallest, n);
  }
  return smallest;
}

// Calls f(first row, rows) for each tile.
template <class F>
PYRNN_INLINE void for_tiles(Index count, F f) {
  for (Index row = 0, n; row < count; row += n) {
    n = next_tile(count - row);
    f(row, n);
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
  // Asks for what the tile from `row` on adds to or writes. Of few lines a tile is done sooner than its sums are
  // there one after the other.
  const auto expect_sums = [&](Index row, const Strip<T>& of, Index panels) {
    for (Index r = row; r < min(count, row + tile_rows); ++r) {
      for (Index j = 0; j < panels; ++j) {
        expect(rows.c[r], {of.column[j], of.column[j] + panel_width<T>});
      }
    }
  };
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
        if (looks && row + some < count) {
          expect_sums(row + some, strip, panels);
        } else if (looks) {
          expect_sums(0, ends ? next : strip, ends ? more : panels);
        }
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
