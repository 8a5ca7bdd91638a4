// What precedes the walk back: packed weights, and what sums and gradients begin with.
#pragma once

#include "backward.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Cell, class T>
void BackwardScan<Cell, T>::pack(const Worker& worker) const {
  const Share units = Share::by_units<T>(B_, H_, P_, worker);
  const Range own = units.panels, own_of_h = units.h_panels;
  for (int p = 0; p < Cell::phases; ++p) {
    const PhaseGates<Cell> gates(p);
    const T* const w = call_.in.params.w_hh + gates.first * H_ * P_;
    pack_window(hidden_[p], own_of_h, {w, H_, P_, gates.count});
  }
  structure_.pack(own);
  if (call_.dx != nullptr && !uses_input_once())
    pack_window(input_, own_inputs(worker), input_window());
}

template <class Cell, class T>
void BackwardScan<Cell, T>::start(const Worker& worker, const Share& share,
                                  const Rows& rows) const {
  for (Index i = share.rows.first; i < share.rows.last; ++i) {
    const Index at = rows.row(i) * H_, of_h = rows.row(i) * P_;
    begin(call_.dh_n, call_.dh0, of_h, share.h_units);
    if constexpr (Cell::has_c) begin(call_.dc_n, call_.dc0, at, share.units);
    if (d_masked_ != nullptr) begin(nullptr, d_masked_, of_h, share.h_units);
  }
  const Range some = part(B_, worker.index, worker.count);
  mask_.draw_rows(call_.in, some);
  for (Index row = some.first; call_.dx != nullptr && row < some.last; ++row) {
    for (Index t = rows.length(row); t < T_; ++t) {
      fill(call_.dx + (t * B_ + row) * I_, {0, I_}, T(0));
    }
  }
  // The last panel is multiplied whole.
  const Range own = part(block_ * B_, worker.index, worker.count);
  for (Index k = own.first; H_ % W != 0 && k < own.last; ++k) {
    for (T* const window : {da_x_, structure_.ds_x, structure_.ds_h}) {
      if (window != nullptr) clear_last_panel(window + k * window_size(G), G);
    }
    for (int p = 0; p < Cell::phases; ++p) {
      clear_last_panel(da_h_[p] + k * window_size(gates_of(p)), gates_of(p));
    }
  }
  if (call_.accumulate) return;
  // Scattering adds to what is there; without a step nothing else writes.
  const bool no_steps = T_ == 0;
  if (no_steps) structure_.clear(worker.index, worker.count);
  const Range units = part(H_, worker.index, worker.count);
  for (int g = 0; g < G; ++g) {
    const Range rows_of_w{g * H_ + units.first, g * H_ + units.last};
    if (no_steps || call_.in.tokens != nullptr) {
      fill(call_.dw_ih, {rows_of_w.first * I_, rows_of_w.last * I_}, T(0));
    }
    if (!no_steps) continue;
    fill(call_.dw_hh, {rows_of_w.first * P_, rows_of_w.last * P_}, T(0));
    if (call_.db_ih != nullptr) fill(call_.db_ih, rows_of_w, T(0));
    if (call_.db_hh != nullptr) fill(call_.db_hh, rows_of_w, T(0));
    if constexpr (Cell::has_c) {
      // One row less than gates: g has none.
      if (call_.dpeephole != nullptr && g + 1 < G) fill(call_.dpeephole, rows_of_w, T(0));
    }
  }
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
