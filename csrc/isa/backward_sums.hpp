// What follows the walk through a block of steps: dx and the gradients of parameters, as large products over
// its (step, row) pairs.
#pragma once

#include "backward.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Cell, class T>
Index BackwardScan<Cell, T>::list(const Places<T>& places, Range steps, const Lists& lists,
                                  Index alive) const {
  Index n = 0;
  for (Index s = steps.size() - 1; s >= 0; --s) {
    const Index t = places.time.at(steps, s);
    alive = places.rows.alive(t, alive);
    for (Index i = 0; i < alive; ++i, ++n) {
      const Index row = places.rows.row(i), at = places.index(t, row);
      lists.da_x[n] = da_x_at(n);
      if constexpr (Cell::has_c) {
        if (call_.dpeephole != nullptr) {
          lists.c[n] = call_.tape.c + at * H_;
          lists.c_prev[n] = places.before(call_.tape.c, call_.in.c0, H_, t, row);
        }
      }
      lists.step[n] = t;
      lists.row[n] = row;
      if (call_.in.tokens != nullptr) {
        lists.tokens[n] = call_.in.tokens[at];
      } else {
        lists.x[n] = call_.in.x + at * I_;
        lists.dx[n] = call_.dx + at * I_;
      }
    }
  }
  return n;
}

template <class Cell, class T>
void BackwardScan<Cell, T>::input_gradient(const Worker& worker, const Places<T>& places,
                                           const Lists& lists, Index K) const {
  const bool norm = structure_.phases.norm;
  const auto place = [&](Index k) { return places.index(lists.step[k], lists.row[k]); };
  structure_.list(worker.index, K, place);
  const Range own = part(K, worker.index, worker.count);
  for (Index k = own.first; norm && k < own.last; ++k) {
    structure_.through_input_norm(lists.da_x[k], place(k), k);
  }
  if (call_.dx == nullptr) return;
  const T* const* const rows = norm ? structure_.rows_of(0, worker.index) : lists.da_x;
  if (uses_input_once()) {
    return multiply_window(K, RowPointers<T>{rows, 1, lists.dx}, input_window(), own_inputs(worker),
                           once_ + worker.index * once_size(), room_ + worker.index * block_ * B_);
  }
  multiply<Base::zero>(own.size(), RowPointers<T>{rows + own.first, 1, lists.dx + own.first},
                       input_, 0, input_.count());
}

template <class Cell, class T>
void BackwardScan<Cell, T>::pack_operands(const Worker& worker, const Places<T>& places,
                                          const Lists& lists, Index K, const Left<T>& left) const {
  if (call_.dx != nullptr) {
    pack_operand(operand(x_, K, I_), lists.x, own_inputs(worker));
  }
  const Share units = Share::by_units<T>(B_, H_, P_, worker);
  structure_.pack_operands(pointwise_, K, units.panels, [&](GradRow<T>& to, Index k) {
    point(to, places, lists.step[k], lists.row[k], k);
  });
  const Range own = units.h_panels;
  if constexpr (Cell::has_c) left.pad(units.panels);
  // Rows of the same length all start at the last of the lines.
  const Index there = left.lines(), first = places.rows.order == nullptr ? there : 0;
  const auto wanted = [&](Index k) {
    return k >= there || places.starts(lists.step[k], lists.row[k]);
  };
  for_phases<Cell>([&](auto phase_constant) {
    constexpr int phase = decltype(phase_constant)::value;
    const Panels<T> b = operand(operand_[phase], K, P_);
    for (Index p = own.first, next; p < own.last; p = next) {
      next = min(own.last, b.bundle_end(p));
      TapeRow<T> rows[Pointwise<T>::rows_at_once];
      const Index step = b.line_step(p);
      for (Index k = first, n = 1; k < K; k += n, n = 1) {
        if (!wanted(k)) continue;
        while (n < min(K - k, Pointwise<T>::rows_at_once) && wanted(k + n)) ++n;
        for (Index i = 0; i < n; ++i) {
          point(rows[i], places, lists.step[k + i], lists.row[k + i]);
        }
        pointwise_.operand[phase](call_.in.variant, n, rows, {p, next}, b.panel(p) + k * step,
                                  step);
      }
    }
    return true;
  });
}

// Of the step before t, whose h W_hh multiplied at t.
template <class Cell, class T>
__attribute__((noinline)) void BackwardScan<Cell, T>::point(TapeRow<T>& to, const Places<T>& places,
                                                            Index t, Index row) const {
  const bool starts = places.starts(t, row);
  const Index before = starts ? 0 : places.index(places.time.before(t), row);
  to.H = H_;
  to.P = P_;
  to.gates = call_.tape.gates + before * C * H_;
  to.h = call_.tape.h == nullptr ? nullptr : call_.tape.h + before * P_;
  to.c = Cell::has_c ? call_.tape.c + before * H_ : nullptr;
  to.h0 = starts ? call_.in.h0 + row * P_ : nullptr;
  to.next = call_.tape.gates + places.index(t, row) * C * H_;
  to.mask = mask_.row(row, P_);
}

template <class Cell, class T>
template <int count>
void BackwardScan<Cell, T>::bias_gradients(const Slice<T>& d, Index row, bool first,
                                           T* const (&biases)[count]) const {
  const T* sum = nullptr;
  for (T* const bias : biases) {
    if (bias == nullptr) continue;
    // What a caller's arrays held need not be the same.
    if (sum == nullptr || call_.accumulate) {
      accumulate_bias(d, bias + row, first);
    } else {
      copy(sum, bias + row, {0, d.width});
    }
    sum = bias + row;
  }
}

template <class Cell, class T>
void BackwardScan<Cell, T>::weight_gradients(const Worker& worker, const Places<T>& places,
                                             const Lists& lists, Index K, bool first) const {
  T* const slices = slices_ + worker.index * slices_of_a_thread() * W * block_ * B_;
  const bool in_place = reads_in_place(), norm = structure_.phases.norm;
  T* const own_slice = slices + (in_place ? 0 : G * W * K);
  const auto norm_rows = [&](int which) { return structure_.rows_of(which, worker.index); };
  // From a column of a window on, `size` values a row.
  const auto slice_of = [&](const T* column, Index size, int width) {
    const Slice<T> d{column, K, width, size};
    return in_place ? d : packed(own_slice, d);
  };
  const Range own = part(panels_of<T>(H_) * G, worker.index, worker.count);
  for (Index i = own.first, copied = i; i < own.last; ++i) {
    const Index panel = i / G, unit = panel * W;
    const int gate = static_cast<int>(i % G), width = static_cast<int>(min(H_ - unit, W));
    const Index row = gate * H_ + unit;  // of the parameters
    const Slice<T> there{da_x_ + i * W, K, width, window_size(G)};
    if (!in_place && (i == own.first || gate == 0)) {
      copied = i;
      pack_slices(slices, there, min(own.last, (panel + 1) * G) - i);
    }
    const Slice<T> da = in_place ? there : Slice<T>{slices + (i - copied) * W * K, K, width};
    Slice<T> d = da;
    if constexpr (Cell::splits) {
      bias_gradients(d, row, first, {call_.db_ih, call_.dln_ih_bias});
    } else {
      bias_gradients(d, row, first,
                     {call_.db_ih, call_.dln_ih_bias, call_.db_hh, call_.dln_hh_bias});
    }
    if constexpr (Cell::has_c) {
      if (call_.dpeephole != nullptr) peephole_gradient(places, lists, d, unit, gate, first);
      structure_.peephole_gradient(d, gate, unit, first);
    }
    if (norm) {
      accumulate_products(d, norm_rows(1), row, call_.dln_ih_weight + row, first);
      d = slice_of(structure_.ds_x + i * W, window_size(G), width);
    }
    if (call_.in.tokens != nullptr) {
      scatter_weight(d, lists.tokens, I_, call_.dw_ih + row * I_);
    } else {
      accumulate_weight(d, operand(x_, K, I_), call_.dw_ih + row * I_, first);
    }
    for_phases<Cell>([&](auto phase_constant) {
      constexpr int phase = decltype(phase_constant)::value;
      constexpr PhaseGates<Cell> gates(phase);
      if (gate < gates.first || gate >= gates.first + gates.count) return true;
      const Index column = (panel * gates.count + gate - gates.first) * W;
      d = Cell::splits ? slice_of(da_h_[phase] + column, window_size(gates.count), width) : da;
      if constexpr (Cell::splits) bias_gradients(d, row, first, {call_.db_hh, call_.dln_hh_bias});
      if (norm) {
        accumulate_products(d, norm_rows(2), row, call_.dln_hh_weight + row, first);
        d = slice_of(structure_.ds_h + column, window_size(G), width);
      }
      accumulate_weight(d, operand(operand_[phase], K, P_), call_.dw_hh + row * P_, first);
      return true;
    });
  }
  structure_.own_gradients(worker.index, worker.count, in_place, own_slice, K, first);
}

template <class Cell, class T>
void BackwardScan<Cell, T>::peephole_gradient(const Places<T>& places, const Lists& lists,
                                              const Slice<T>& d, Index unit, int gate,
                                              bool first) const {
  if (gate == Cell::C) return;
  const bool of_output = gate == Cell::O;
  T* const dp = call_.dpeephole + (of_output ? Cell::peephole_o : gate) * H_ + unit;
  // Without zoneout c~ is c_t.
  if (!of_output || !(call_.in.variant.zoneout_c > 0)) {
    accumulate_products(d, of_output ? lists.c : lists.c_prev, unit, dp, first);
    return;
  }
  accumulate_lines(d.depth, d.width, dp, first, [&](Index k, int v) {
    T c[W];
    GradRow<T> row;
    point(row, places, lists.step[k], lists.row[k], k);
    pointwise_.fresh_cell(call_.in.variant, 1, &row, unit / W, c, W);
    return load(d.line(k) + v * lanes<T>) * load_line(c, v, d.width);
  });
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
