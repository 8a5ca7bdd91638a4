// Where the values of a row lie in a forward pass: ahead of its steps, at each, and behind the last.
#pragma once

#include "forward.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Cell, class T, class Operand>
bool ForwardScan<Cell, T, Operand>::mask_first(Worker& worker) const {
  const Range rows = part(B_, worker.index, worker.count);
  mask_.draw_rows(call_.in, rows);
  for (Index row = rows.first; row < rows.last; ++row) {
    const Chosen<T> rule(call_.in.variant);
    for_lanes<T>(0, P_, [&](const auto& at) {
      const Vec<T> h = at.load(call_.in.h0 + row * P_);
      at.store(masked_h_[0] + row * P_, rule.masked(at, mask_.row(row, P_), h));
    });
  }
  return worker.barrier();
}

template <class Cell, class T, class Operand>
template <bool save>
void ForwardScan<Cell, T, Operand>::start_cells(const Share& share, const Rows& rows) const {
  if constexpr (Cell::has_c && !save) {
    for (Index i = share.rows.first; i < share.rows.last; ++i) {
      const Index at = rows.row(i) * H_;
      copy(call_.in.c0 + at, call_.c_n + at, share.units);
    }
  }
}

template <class Cell, class T, class Operand>
template <bool save>
void ForwardScan<Cell, T, Operand>::zero_padding(const Worker& worker, const Share& share,
                                                 const Rows& rows) const {
  if (rows.order == nullptr) return;
  for (Index i = share.rows.first; i < share.rows.last; ++i) {
    const Index row = rows.row(i);
    for (Index t = rows.length(row); t < T_; ++t) {
      const Index at = t * B_ + row;
      fill(call_.y + at * P_, share.h_units, T(0));
      if constexpr (save) {
        const Tape<T>& tape = call_.tape;
        for (int c = 0; c < C; ++c) fill(tape.gates + (at * C + c) * H_, share.units, T(0));
        if constexpr (Cell::has_c) fill(tape.c + at * H_, share.units, T(0));
        if (tape.h != nullptr) fill(tape.h + at * P_, share.h_units, T(0));
        if (!phases_.norm) continue;
        for (T* const norm : {tape.norm_ih, tape.norm_hh}) {
          for (int g = 0; g < G; ++g) fill(norm + (at * G + g) * H_, share.units, T(0));
        }
        if (writes_rows(worker)) fill(tape.rstd + at * 2, {0, 2}, T(0));
      }
    }
  }
}

template <class Cell, class T, class Operand>
template <bool save>
PYRNN_INLINE void ForwardScan<Cell, T, Operand>::point(StepRow<T>& to, const Places<T>& places,
                                                       Index t, Index row) const {
  const Index at = places.index(t, row);
  to = {};
  to.H = H_;
  to.h_prev = places.before(call_.y, call_.in.h0, P_, t, row);
  to.h = call_.y + at * P_;
  to.u = to.h;
  if constexpr (save) to.gates = call_.tape.gates + at * C * H_;
  if constexpr (Cell::has_c) {
    if constexpr (save) {
      to.c_prev = places.before(call_.tape.c, call_.in.c0, H_, t, row);
      to.c = call_.tape.c + at * H_;
    } else {
      to.c = call_.c_n + row * H_;
      to.c_prev = to.c;
    }
  }
  if constexpr (save) {
    if (Cell::tapes_h || call_.tape.h != nullptr) to.tape_h = call_.tape.h + at * P_;
  }
  to.operand = to.h_prev;
  if (!call_.in.variant.plain) choose<save>(to, places, t, row);
  if constexpr (Cell::phases > 1) to.reset_h = reset_h_ + row * H_;
}

template <class Cell, class T, class Operand>
template <bool save>
void ForwardScan<Cell, T, Operand>::choose(StepRow<T>& to, const Places<T>& places, Index t,
                                           Index row) const {
  to.kept_h = zoneout_.of_h(row);
  to.kept_c = zoneout_.of_c(row);
  const Index before = places.time.before(t);
  if (phases_.projects) to.u = u_ + row * H_;
  if (phases_.full) {
    to.fresh = fresh_ + row * H_;
    if constexpr (!save) {
      to.c_prev = (places.starts(t, row) ? call_.in.c0 : cells_[before & 1]) + row * H_;
      to.c = cells_[t & 1] + row * H_;
    }
  }
  if (mask_.values == nullptr) return;
  to.mask = mask_.row(row, P_);
  to.operand = masked_h_[places.starts(t, row) ? 0 : 1 + (before & 1)] + row * P_;
  to.masked_h = masked_h_[1 + (t & 1)] + row * P_;
}

template <class Cell, class T, class Operand>
template <bool save>
void ForwardScan<Cell, T, Operand>::finish(const Share& share, const Places<T>& places) const {
  for (Index i = share.rows.first; i < share.rows.last; ++i) {
    const Index row = places.rows.row(i);
    const bool empty = places.rows.length(row) == 0;
    const Index step = places.last_step(row);
    const Index last = empty ? 0 : places.index(step, row);
    copy(empty ? call_.in.h0 + row * P_ : call_.y + last * P_, call_.h_n + row * P_, share.h_units);
    if constexpr (Cell::has_c) {
      const T* c = empty ? call_.in.c0 + row * H_ : nullptr;
      if (!empty && save) c = call_.tape.c + last * H_;
      if (!empty && !save && phases_.full) c = cells_[step & 1] + row * H_;
      if (c != nullptr) copy(c, call_.c_n + row * H_, share.units);
    }
  }
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
