// W_hh or W_ih as the gradients of the gates meet it on the way back: its rows in the order of a row of the
// window, panel of units by panel, gate by gate.
#pragma once

#include "scan.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// Lines of a packed W: its last panel of units is padded.
template <class T>
PYRNN_INLINE Index window_depth(Index H, int gates) {
  return panels_of<T>(H) * gates * panel_width<T>;
}

// W [gates * H, columns], of a call's parameters.
template <class T>
struct WindowMatrix {
  const T* data;
  Index H, columns;
  int gates;
};

// Some panels of b from the lines of w from `line` on and its columns from `column` on. Lines of units beyond H are
// zeros.
template <class T>
__attribute__((noinline)) void pack_window(const Panels<T>& b, Range panels,
                                           const WindowMatrix<T>& w, Index line = 0,
                                           Index column = 0) {
  constexpr Index W = panel_width<T>;
  for (Index k = 0; k < b.depth; k += W) {
    const Index block = (line + k) / W, unit = block / w.gates * W, gate = block % w.gates;
    const T* const rows = w.data + (gate * w.H + unit) * w.columns + column;
    pack_rows(b, panels.first, panels.last, {k, k + W}, [&](Index at) -> const T* {
      const Index row = at - k;
      return row < w.H - unit ? rows + row * w.columns : nullptr;
    });
  }
}

// Values of a part of W that stays in L2 beside what it is multiplied with.
template <class T>
constexpr Index window_part = block_bytes / Index(sizeof(T));

// C = A W in some panels of columns, for a W that is used once: each part of it is packed just before its use, into
// a buffer of window_part values. `room`: for `count` pointers.
template <class T>
__attribute__((noinline)) void multiply_window(Index count, const RowPointers<T>& rows,
                                               const WindowMatrix<T>& w, Range panels, T* buffer,
                                               const T** room) {
  constexpr Index W = panel_width<T>;
  // Of a row of W so many neighbouring lines come in at once.
  constexpr Index most_panels = 16, most_lines = window_part<T> / (most_panels * W);
  const Index depth = window_depth<T>(w.H, w.gates);
  for (Index p = panels.first, next; p < panels.last; p = next) {
    next = min(panels.last, p + most_panels);
    for (Index k = 0; k < depth; k += most_lines) {
      const Index lines = min(most_lines, depth - k), column = p * W;
      const Panels<T> part{buffer, lines, min(w.columns - column, (next - p) * W), 1, {column}};
      pack_window(part, {0, part.count()}, w, k, column);
      for (Index i = 0; i < count; ++i) room[i] = rows.a[i] + k;
      const RowPointers<T> own{room, 1, rows.c};
      if (k == 0) {
        multiply<Base::zero>(count, own, part, 0, part.count());
      } else {
        multiply<Base::self>(count, own, part, 0, part.count());
      }
    }
  }
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
