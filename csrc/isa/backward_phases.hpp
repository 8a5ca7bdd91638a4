// A step back through the phases of structure.hpp, between which workers meet.
#pragma once

#include "backward.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Cell, class T>
template <class ForRows, class ExpectNext>
bool BackwardScan<Cell, T>::structured_step(Worker& worker, Share& share, const Places<T>& places,
                                            Index n, Index t, ForRows for_rows,
                                            ExpectNext expect_next, const T** a, T** c) const {
  const Variant<T>& variant = call_.in.variant;
  const auto& phases = structure_.phases;
  const RowPointers<T> pointers{a, 1, c};
  if (phases.projects) {
    for_rows([&](Index i, Index, Index k, GradRow<T>& row) {
      structure_.unsettle(row, k, share.h_units);
      a[i] = structure_.dh + k * structure_.size_of(P_);
      c[i] = row.du;
      // To what follows u is h.
      row.dh = row.du;
      row.dy = nullptr;
    });
    if (!share.template meet<T>(plan_, places.rows, H_, P_, worker)) return false;
    multiply<Base::zero>(n, pointers, structure_.projection, share.panels.first, share.panels.last);
  }
  if (structure_.parts()) {
    for_rows([&](Index i, Index, Index k, const GradRow<T>& row) {
      expect_next(i);
      pointwise_.backward_stages[1](variant, row, share.panels, da_x_at(k), nullptr);
    });
    if (!share.template meet<T>(plan_, places.rows, H_, P_, worker)) return false;
    for_rows([&](Index i, Index, Index k, const GradRow<T>& row) {
      structure_.through_cell_norm(row, k, share.units);
      a[i] = row.d_output;
      c[i] = row.d_fresh;
    });
    if (phases.full) {
      multiply<Base::self>(n, pointers, structure_.output_peephole, share.panels.first,
                           share.panels.last);
    }
  }
  for_rows([&](Index i, Index, Index k, const GradRow<T>& row) {
    if (!structure_.parts()) expect_next(i);
    const auto backward =
        structure_.parts() ? pointwise_.backward_stages[0] : pointwise_.backward[0];
    backward(variant, row, share.panels, da_x_at(k), da_h_at<0>(k));
  });
  if (phases.norm) {
    if (!share.template meet<T>(plan_, places.rows, H_, P_, worker)) return false;
    for_rows([&](Index, Index row, Index k, const GradRow<T>&) {
      structure_.through_hidden_norm(da_h_at<0>(k), places.index(t, row), k, share.panels);
    });
  }
  for_rows([&](Index i, Index row, Index k, const GradRow<T>&) {
    a[i] = phases.norm ? structure_.ds_h + k * window_size(G) : da_h_at<0>(k);
    c[i] = carried_ + row * P_;
  });
  if (!worker.proceed(cost_of_step_)) return false;
  if (!carry_back<0>(worker, share, places, n, t, pointers)) return false;
  if (phases.full) {
    for_rows([&](Index i, Index, Index, const GradRow<T>& row) {
      a[i] = row.d_cell;
      c[i] = row.dc;
    });
    multiply<Base::self>(n, pointers, structure_.cell_peepholes, share.panels.first,
                         share.panels.last);
  }
  return true;
}

template <class Cell, class T>
bool BackwardScan<Cell, T>::normalise_cells(Worker& worker, Share& share, const Places<T>& places,
                                            Range steps, Index alive) const {
  Index n = 0, line = 0;
  for (Index s = steps.size() - 1; s >= 0; --s, line += alive) {
    const Index t = places.time.at(steps, s);
    alive = places.rows.alive(t, alive);
    for (Index i = share.rows.first; i < min(alive, share.rows.last); ++i, ++n) {
      if (!plan_.by_rows && n % worker.count != worker.index) continue;
      GradRow<T> at_row;
      point(at_row, places, t, places.rows.row(i), line + i);
      structure_.normalise_cell(pointwise_, at_row, line + i);
    }
  }
  return share.template meet<T>(plan_, places.rows, H_, P_, worker);
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
