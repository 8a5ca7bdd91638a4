// A forward step with both products at once, or with the phases of structure.hpp, between which workers meet.
#pragma once

#include "forward.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// sums += W_hh h, or their normalised values.
template <class Cell, class T, class Operand>
template <bool save>
bool ForwardScan<Cell, T, Operand>::add_sums(Worker& worker, Share& share, const Places<T>& places,
                                             Range rows, Index t, const RowLists& lists) const {
  const Index n = rows.size();
  for (Index i = 0; i < n; ++i) {
    lists.a[i] = lists.row[i].operand;
    if (!phases_.norm) continue;
    // While some workers read the sums of a step, others make those of the next.
    lists.raw[i] = raw_hidden_[t & 1] + places.rows.row(rows.first + i) * sums_size();
    if (!starts_at_zero())
      fill(lists.raw[i], {share.panels.first * C * W, share.panels.last * C * W}, T(0));
  }
  T* const* const sums = phases_.norm ? lists.raw : lists.c;
  if (!add_hidden<0, save>(worker, share, n, t & 1, lists, sums)) return false;
  if (phases_.norm) {
    if (!share.template meet<T>(plan_, places.rows, H_, P_, worker)) return false;
    for (Index i = 0; i < n; ++i) {
      const Index at = places.index(t, places.rows.row(rows.first + i));
      const T rstd = phases().add_hidden(lists.raw[i], share.panels, lists.c[i],
                                         save ? call_.tape.norm_hh + at * G * H_ : nullptr);
      if (save && writes_rows(worker)) call_.tape.rstd[at * 2 + 1] = rstd;
    }
  }
  return true;
}

template <class Cell, class T, class Operand>
template <bool save>
bool ForwardScan<Cell, T, Operand>::structured_step(Worker& worker, Share& share,
                                                    const Places<T>& places, Range rows, Index t,
                                                    const RowLists& lists) const {
  const Variant<T>& variant = call_.in.variant;
  const Index n = rows.size();
  if (fused_) {
    for (int other = 0; !plan_.by_rows && other < worker.count; ++other) {
      if (!worker.await(other)) return false;
    }
    if constexpr (exact) {
      fused_step<save>(share, places, rows, t, lists);
    } else {
      fused_step_reduced(share, n, lists);
    }
  } else if (!add_sums<save>(worker, share, places, rows, t, lists)) {
    return false;
  }
  if (phases_.parts()) {
    phases().add_cell_peepholes(n, lists.row, lists.a, lists.c, share.panels);
    for (int stage = 0; stage < Cell::stages; ++stage) {
      if (Cell::has_c && stage == 1) {
        if (!share.template meet<T>(plan_, places.rows, H_, P_, worker)) return false;
        phases().between_stages(variant, n, lists.row, lists.a, lists.c, share.panels);
      }
      apply_stage<0, save>(pointwise_, stage, variant, n, lists.row, share.panels, lists.c);
    }
  }
  if (phases_.projects) {
    if (!share.template meet<T>(plan_, places.rows, H_, P_, worker)) return false;
    phases().project(pointwise_, variant, n, lists.row, lists.a, lists.c, share.h_panels);
  }
  if (!worker.proceed(cost_of_step_)) return false;
  if (plan_.by_rows) return true;
  if (!worker.arrive()) return false;
  share.follow<T>(plan_, places.rows, H_, P_, worker);
  return true;
}

template <class Cell, class T, class Operand>
template <bool save>
bool ForwardScan<Cell, T, Operand>::normalise_input(Worker& worker, Share& share,
                                                    const Places<T>& places, Range steps,
                                                    Index alive) const {
  if (!share.template meet<T>(plan_, places.rows, H_, P_, worker)) return false;
  for_alive(share, places, steps, alive, [&](Index t, Index row) {
    const Index offset = window_row(t, row, steps.first) * sums_size();
    const Index at = places.index(t, row);
    const T rstd = phases().add_input(raw_input_ + offset, share.panels, window_ + offset,
                                      save ? call_.tape.norm_ih + at * G * H_ : nullptr);
    if (save && writes_rows(worker)) call_.tape.rstd[at * 2] = rstd;
  });
  return true;
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
