// What a cell is. A cell is a struct with
//
//   name, gates (G), columns (C), has_c, tapes_h   as in kernels.hpp
//   segments    how the hidden side maps gates to columns, in phases
//   splits      whether da_x and da_h differ: the gradients of the gates as W_ih x and as W_hh h see them
//   pointwise<phase, stage, save>     gates before their activation -> h_t (and c_t)
//   pointwise_backward<phase>         dh_t (and dc_t) -> gradients of the gates, what is carried to t-1
//   hidden                            h_t, read back from the tape
//   operand                           what a second phase multiplies its rows of W_hh with
//
// The last four are written against a rule, which says what a variant of the cell does otherwise.
//
// A step runs the phases in order: W_hh times the operand of the phase, then its pointwise part. That
// part passes over the units once a stage: cut where one activation waits for another, or the chain of
// both, some 150 cycles, would be longer than what a processor reorders.
#pragma once

#include <type_traits>

#include "gemm.hpp"
#include "variant.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// Gates [gate, gate + count) of W_hh add to the blocks of columns from `column` on, in `phase`.
struct Segment {
  int gate, count, column, phase;
};

// Sums and gradients of gates lie by panels, [panel of units][block][panel_width]: what a tile writes and
// what the pointwise part of its units reads are then the same few lines.
//
// The blocks of the panel that `at` stands in: block b of it is at.load(blocks + b * panel_width<T>).
template <class T>
PYRNN_INLINE T* panel_blocks(T* row, Index panel, int blocks) {
  return row + panel * (blocks - 1) * panel_width<T>;
}

// Gates that phase `p` computes, the first of them, and the column block of each.
template <class Cell>
struct PhaseGates {
  int count = 0, first = 0;
  int column[4] = {};

  constexpr explicit PhaseGates(int p) {
    for (const Segment& s : Cell::segments) {
      if (s.phase != p) continue;
      if (count == 0) first = s.gate;
      for (int i = 0; i < s.count; ++i) column[count++] = s.column + i;
    }
  }
};

// The column block that gate `gate` of W_hh adds to.
template <class Cell>
constexpr int hidden_column(int gate) {
  for (const Segment& s : Cell::segments) {
    if (gate >= s.gate && gate < s.gate + s.count) return s.column + gate - s.gate;
  }
  return -1;
}

// Calls f(std::integral_constant<int, phase>) for each phase, in order or backwards.
template <class Cell, bool backwards = false, class F>
PYRNN_INLINE constexpr bool for_phases(F f) {
  if constexpr (Cell::phases == 1) {
    return f(std::integral_constant<int, 0>());
  } else {
    static_assert(Cell::phases == 2);
    constexpr int first = backwards ? 1 : 0;
    return f(std::integral_constant<int, first>()) && f(std::integral_constant<int, 1 - first>());
  }
}

template <class Cell, class F>
PYRNN_INLINE constexpr void for_stages(F f) {
  f(std::integral_constant<int, 0>());
  if constexpr (Cell::stages == 2) f(std::integral_constant<int, 1>());
}

// What cells have in common that tape h_t,
struct TapedHidden {
  template <class T, class Rule, class At>
  static PYRNN_INLINE Vec<T> hidden(const Rule&, const At& at, const TapeRow<T>& row) {
    return at.load(row.h);
  }
};

// and of them those whose second phase multiplies W_hh by their first gate times h_{t-1}.
struct GatedHidden : TapedHidden {
  template <class T, class Rule, class At>
  static PYRNN_INLINE Vec<T> operand(const Rule& rule, const At& at, const T* gates,
                                     Vec<T> h_prev) {
    return rule.open_gate(at.load(gates)).value * h_prev;
  }
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
