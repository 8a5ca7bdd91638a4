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
  const auto multiply_units = [&](Range some, Range then) {
    if constexpr (!exact) {
      const Range own = grouped(some, gates.count);
      multiply<Base::self>(n, list, weights, own.first, own.last);
    } else if (packs()) {
      multiply_along(walk, some, back, n, list, weights, units, base, false, then);
    }
  };
  const auto finish_units = [&](Range some) {
    apply<Cell, phase, save, T>(pointwise_, call_.in.variant, n, lists.row, some, sums);
  };
  if (n < Plan::least_rows || phases_.parts()) {
    multiply_units(share.panels, {0, 0});
    // Of one row the chains of activations are hidden only by those of many units.
    if (!phases_.parts()) finish_units(share.panels);
    return true;
  }
  walk.over(share.panels, back, [&](Range some) {
    multiply_units(some, walk.next(share.panels, some, back));
    finish_units(some);
  });
  return true;
}

template <class Cell, class T, class Operand>
template <bool save>
void ForwardScan<Cell, T, Operand>::fused_step(const Share& share, const Places<T>& places,
                                               Range rows, Index t, const RowLists& lists) const {
  constexpr PhaseGates<Cell> gates(0);
  // Of the sums of so many rows and panels.
  constexpr Index most_rows = tile_rows * most_fused / at_once;
  const bool tall = tall_ && rows.size() > tile_rows;
  const Index units_at_once = tall ? at_once : fused_panels_;
  const Index rows_at_once = tall ? most_rows : tile_rows;
  const Index parts = ceil_div(rows.size(), rows_at_once);
  alignas(line_bytes) T sums[tile_rows * most_fused * C * W];
  const T* h[most_rows];
  T* c[most_rows];
  for (Index u = share.panels.first; u < share.panels.last; u += units_at_once) {
    const Range some{u, min(share.panels.last, u + units_at_once)};
    // The step after this one begins where this one began.
    const Index next = some.last < share.panels.last ? some.last : share.panels.first;
    const Range units_ahead{next, far_ ? min(share.panels.last, next + units_at_once) : next};
    for (Index i = 0, first = 0, n; first < rows.size(); ++i, first += n) {
      const Index left = rows.size() - first;
      n = tall ? ceil_div(left, parts - i) : next_tile(left);
      for (Index k = 0; k < n; ++k) {
        h[k] = lists.row[first + k].operand;
        expect_writes<save>(lists.row[first + k], units_of<T>(some, H_));
        c[k] = sums + (k * units_at_once - u) * C * W;
      }
      const RowPointers<T> states{h, 1, c};
      if (call_.in.tokens != nullptr) {
        for (Index k = 0; k < n; ++k) {
          const Index row = places.rows.row(rows.first + first + k);
          weights_.start_sums(c[k], some);
          gather(call_.in.tokens[places.index(t, row)], c[k], some);
        }
        multiply<Base::self>(n, states, weights_.hidden[0], some.first * gates.count,
                             some.last * gates.count);
      } else {
        multiply_both(n, RowPointers<T>{lists.a + first, 1, c}, states, weights_, some,
                      {i, parts, units_ahead});
      }
      apply<Cell, 0, save, T>(pointwise_, call_.in.variant, n, lists.row + first, some, c);
    }
  }
}

template <class Cell, class T, class Operand>
void ForwardScan<Cell, T, Operand>::fused_step_reduced(const Share& share, Index n,
                                                       const RowLists& lists) const {
  // Of those and the units of a few panels, or of fewer rows and more units, the sums are in L1.
  constexpr Index most_rows = 64;
  alignas(line_bytes) T sums[most_rows * at_once * C * W];
  const T* h[most_rows];
  T* c[most_rows];
  const Index x_words = prepared_words(weights_.input);
  for (Index first = 0, some = 0; first < n; first += some) {
    some = ceil_div(n - first, ceil_div(n - first, most_rows));
    Index units_at_once = at_once;
    while (2 * units_at_once * some <= most_rows * at_once) units_at_once *= 2;
    const StepRow<T>* const row = lists.row + first;
    for (Index i = 0; i < some; ++i) h[i] = row[i].operand;
    const auto x_rows = prepared(weights_.input, some, lists.a + first, c, lists.prepared);
    const auto h_rows = prepared(weights_.hidden[0], some, h, c, lists.prepared + some * x_words);
    for_blocks(share.panels, units_at_once, false, [&](Range panels) {
      for (Index i = 0; i < some; ++i) {
        expect_writes<false>(row[i], units_of<T>(panels, H_));
        c[i] = sums + (i * units_at_once - panels.first) * C * W;
      }
      multiply_both(some, x_rows, h_rows, weights_, panels);
      apply<Cell, 0, false, T>(pointwise_, call_.in.variant, some, row, panels, c);
    });
  }
}

template <class Cell, class T, class Operand>
template <bool save>
PYRNN_INLINE void ForwardScan<Cell, T, Operand>::expect_writes(const StepRow<T>& row, Range units) {
  // A projection's u stays near; h has fewer columns then, after which the next row's come.
  expect(row.h, units);
  if constexpr (Cell::has_c) expect(row.c, units);
  if constexpr (save) {
    if (Cell::tapes_h || row.tape_h != nullptr) expect(row.tape_h, units);
    for (int c = 0; c < C; ++c) expect(row.gates + c * row.H, units);
  }
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
