// What a cell is. A cell is a struct with
//
//   name, gates (G), columns (C), has_c, tapes_h   as in kernels.hpp
//   segments    how the hidden side maps gates to columns, in phases
//   pointwise<phase, stage, save>     gates before their activation -> h_t (and c_t)
//   pointwise_backward<phase>         dh_t (and dc_t) -> gradients of the gates, what is carried to t-1
//   splits      whether da_x and da_h differ: the gradients of the gates as W_ih x and as W_hh h see them
//   hidden                            h_t, read back from the tape
//   operand                           what a second phase multiplies its rows of W_hh with
//
// A step runs the phases in order: W_hh times the operand of the phase, then its pointwise part. That
// part passes over the units once a stage: cut where one activation waits for another, or the chain of
// both, some 150 cycles, would be longer than what a processor reorders.
#pragma once

#include "gemm.hpp"
#include "vecmath.hpp"

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

// One row (sequence) at one step; every pointer is to unit 0.
template <class T>
struct StepRow {
  Index H;
  T* gates;         // [C*H] with save: after their activation
  const T* h_prev;  // [H]
  const T* c_prev;  // [H]
  T* h;             // [H]
  T* c;             // [H]
  T* tape_h;        // [H]
  T* reset_h;       // [H] r * h_{t-1} of the reset-before GRU
};

template <class T>
struct GradRow {
  Index H;
  const T* gates;   // [C*H]
  const T* h_prev;  // [H]
  const T* c_prev;  // [H]
  const T* c;       // [H]
  const T* dy;      // [H] or null
  T* dh;            // [H] in: dh_t less dy; out: what reaches h_{t-1} beside W_hh
  T* dc;            // [H] in: dc_t; out: dc_{t-1}
  T* d_reset_h;     // [H] in, phase 0 of the reset-before GRU
};

// One row of the tape, at the step whose h is wanted.
template <class T>
struct TapeRow {
  Index H;
  const T* gates;  // [C*H]
  const T* h;      // [H]
  const T* c;      // [H]
};

template <class T>
PYRNN_INLINE Vec<T> sigmoid_slope(Vec<T> s) {
  return s * (splat(T(1)) - s);
}

template <class T>
PYRNN_INLINE Vec<T> tanh_slope(Vec<T> y) {
  return splat(T(1)) - y * y;
}

// dh_t: what came back from t+1, and dy.
template <class T, class At>
PYRNN_INLINE Vec<T> incoming(const At& at, const GradRow<T>& row) {
  const Vec<T> dh = at.load(row.dh);
  return row.dy == nullptr ? dh : dh + at.load(row.dy);
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
