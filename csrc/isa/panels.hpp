// The right operand of a product, packed in panels one cache line wide, and the rows of the left one.
#pragma once

#include "range.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// A panel holds `panel_width` columns; its row for one k is one cache line.
constexpr int line_bytes = 64;
template <class T>
constexpr int panel_width = line_bytes / static_cast<int>(sizeof(T));
constexpr int panel_vectors = line_bytes / vector_bytes;

// Lines of a row: an odd number of them keeps a column's from meeting in the same sets of a cache.
PYRNN_INLINE Index spread(Index lines) { return lines | 1; }

template <class T>
PYRNN_INLINE Index panels_of(Index columns) {
  return ceil_div(columns, panel_width<T>);
}

// Where a vector is a whole line, up to four panels lie interleaved line by line, so that a tile of four
// reads one stream: out of L3 that is 15 % faster than four streams. Narrower vectors take panel by panel.
constexpr Index most_bundled = panel_vectors == 1 ? 4 : 1;

// Packed B: [bundle of panels][depth][panel of the bundle][panel_width]. Panels of `groups` column blocks
// alternate, so that a range of panels is a range of hidden units with all of their gates: panel p has the
// columns from p / groups * panel_width on of block p % groups; the last of a block is padded with zeros.
template <class T>
struct Panels {
  T* data;
  Index depth;    // K
  Index columns;  // of one block
  int groups;
  Index start[4];               // column of C where the panels of a block start,
  Index step = panel_width<T>;  // and from one of them to the next
  bool padded = false;          // whether C has room for whole panels
  Index origin = 0;             // the panel that data points to, the first of a bundle

  PYRNN_INLINE Index count() const { return groups * panels_of<T>(columns); }
  // Values that the panels take.
  PYRNN_INLINE Index size() const { return count() * depth * panel_width<T>; }
  PYRNN_INLINE Index column(Index p) const { return start[p % groups] + p / groups * step; }
  // Columns of panel p that exist in B.
  PYRNN_INLINE int width(Index p) const { return width_of_unit(p / groups); }
  PYRNN_INLINE int width_of_unit(Index unit) const {
    return static_cast<int>(min(columns - unit * panel_width<T>, panel_width<T>));
  }

  PYRNN_INLINE Index bundle() const {
    return groups == 1 ? most_bundled : min(groups, most_bundled);
  }
  PYRNN_INLINE Index bundle_start(Index p) const { return p - p % bundle(); }
  PYRNN_INLINE Index bundle_end(Index p) const { return min(count(), bundle_start(p) + bundle()); }
  // Line 0 of panel p, and the distance to its next line.
  PYRNN_INLINE T* panel(Index p) const {
    const Index first = bundle_start(p);
    return data + ((first - origin) * depth + p - first) * panel_width<T>;
  }
  PYRNN_INLINE Index line_step(Index p) const {
    return (bundle_end(p) - bundle_start(p)) * panel_width<T>;
  }
  // Line k of panel p of a B of one block, without the divisions.
  PYRNN_INLINE T* line(Index p, Index k) const {
    if constexpr (most_bundled == 1) {
      return data + (p * depth + k) * panel_width<T>;
    } else {
      const Index first = p & -most_bundled;
      const Index size = min(most_bundled, panels_of<T>(columns) - first);
      return data + (first * depth + p - first + k * size) * panel_width<T>;
    }
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

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
