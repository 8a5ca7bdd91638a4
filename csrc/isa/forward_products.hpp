// The products of a step forward, and its pointwise part.
#pragma once

#include "forward.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Cell, class T, class Operand>
template <int phase, bool save>
bool ForwardScan<Cell, T, Operand>::add_hidden(Worker& worker, const Share& share, Index n,
                                               bool back, const RowLists& lists,
                                               T* const* sums) const {
  constexpr PhaseGates<Cell> gates(phase);
  const Operand& weights = weights_.hidden[phase];
  const Walk& walk = walks_[phase];
  const Base base = starts_at_zero() ? Base::zero : Base::self;
  Range units{0, P_};
  if (!plan_.by_rows) {
    for (int other = 0; other < worker.count; ++other) {
      if (!worker.await(other)) return false;
      const Range theirs = units_of<T>(part(panels_of<T>(P_), other, worker.count), P_);
      // Their lines come over all at once, not one after the other as the product meets them.
      for (Index i = 0; other != worker.index && i < n; ++i) expect(lists.a[i], theirs);
      if constexpr (exact) {
        units = theirs;
        if (packs() && other + 1 < worker.count) {
          const RowPointers<T> list{lists.a, 1, sums};
          multiply_along(walk, share.panels, back, n, list, weights, units, base, true);
        }
      }
    }
  }
  const auto list = prepared(weights, n, lists.a, sums, lists.prepared);
  if constexpr (exact) {
    if (!packs() && n > 0) {
      const Range panels = grouped(share.panels, gates.count);
      multiply_once<Base::self>(n, list, weights, call_.in.params.w_hh + gates.first * H_ * P_,
                                once(worker), panels.first, panels.last);
    }
  }
  const auto multiply_units = [&](Range some) {
    if constexpr (!exact) {
      const Range own = grouped(some, gates.count);
      multiply<Base::self>(n, list, weights, own.first, own.last);
    } else if (packs()) {
      multiply_along(walk, some, back, n, list, weights, units, base);
    }
  };
  const auto finish_units = [&](Range some) {
    apply<Cell, phase, save, T>(pointwise_, call_.in.variant, n, lists.row, some, sums);
  };
  if (n < Plan::least_rows || phases_.parts()) {
    multiply_units(share.panels);
    // Of one row the chains of activations are hidden only by those of many units.
    if (!phases_.parts()) finish_units(share.panels);
    return true;
  }
  walk.over(share.panels, back, [&](Range some) {
    multiply_units(some);
    finish_units(some);
  });
  return true;
}

template <class Cell, class T, class Operand>
template <bool save>
void ForwardScan<Cell, T, Operand>::fused_step(const Share& share, const Places<T>& places,
                                               Range rows, Index t, const RowLists& lists) const {
  constexpr PhaseGates<Cell> gates(0);
  for (Index u = share.panels.first; u < share.panels.last; u += fused_panels_) {
    const Range some{u, min(share.panels.last, u + fused_panels_)};
    for_tiles(rows.size(), [&](Index first, Index n) {
      alignas(line_bytes) T sums[tile_rows][most_fused * C * W];
      const T* h[tile_rows];
      T* c[tile_rows];
      for (Index i = 0; i < n; ++i) {
        h[i] = lists.row[first + i].operand;
        expect_writes<save>(lists.row[first + i], units_of<T>(some, H_));
        c[i] = sums[i] - u * C * W;
      }
      const RowPointers<T> states{h, 1, c};
      if (call_.in.tokens != nullptr) {
        for (Index i = 0; i < n; ++i) {
          const Index row = places.rows.row(rows.first + first + i);
          weights_.start_sums(c[i], some);
          gather(call_.in.tokens[places.index(t, row)], c[i], some);
        }
        multiply<Base::self>(n, states, weights_.hidden[0], some.first * gates.count,
                             some.last * gates.count);
      } else {
        multiply_both(n, RowPointers<T>{lists.a + first, 1, c}, states, weights_, some);
      }
      apply<Cell, 0, save, T>(pointwise_, call_.in.variant, n, lists.row + first, some, c);
    });
  }
}

template <class Cell, class T, class Operand>
template <bool save>
PYRNN_INLINE void ForwardScan<Cell, T, Operand>::expect_writes(const StepRow<T>& row, Range units) {
  expect(row.u, units);
  if constexpr (Cell::has_c) expect(row.c, units);
  if constexpr (save) {
    if constexpr (Cell::tapes_h) expect(row.tape_h, units);
    for (int c = 0; c < C; ++c) expect(row.gates + c * row.H, units);
  }
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
