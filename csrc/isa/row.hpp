// One row (sequence) at one step, as the pointwise part of a cell meets it.
#pragma once

#include "vec.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class T>
struct Panels;

// Forward; every pointer is to unit 0.
template <class T>
struct StepRow {
  Index H;
  T* gates;          // [C*H] with save: see Tape
  const T* h_prev;   // [P]
  const T* operand;  // [P] h_prev as W_hh sees it
  const T* c_prev;   // [H]
  T* h;              // [P]
  T* c;              // [H]
  T* tape_h;         // [P] or null
  T* fresh;          // [H] c~ for a full peephole, or null
  T* u;              // where the LSTM's u = o act(c) goes: [H] for a projection, or h itself
  T* reset_h;        // [H] r * operand of the reset-before GRU
  T* masked_h;       // [P] h as the next step's W_hh sees it, null without recurrent dropout
  const T* mask;     // [P] of recurrent dropout, or null
  const T* kept_h;   // [P] the part of h_prev that zoneout keeps, 0 or 1, or null
  const T* kept_c;   // [H] and that of c_prev
};

template <class T>
struct GradRow {
  Index H;
  const T* gates;     // [C*H]
  const T* h_prev;    // [P]
  const T* c_prev;    // [H]
  const T* c;         // [H]
  const T* h;         // [P] of the tape, with zoneout of an LSTM
  const T* dy;        // [P] or null
  const T* dcells;    // [H] or null
  T* dh;              // [P] in: dh_t less dy; out: what reaches h_{t-1} beside W_hh
  T* dc;              // [H] in: dc_t; out: dc_{t-1}
  T* d_reset_h;       // [H] in, phase 0 of the reset-before GRU
  const T* mask;      // [P] of recurrent dropout, or null
  const T* d_masked;  // [P] gradient of what W_hh saw of h_t, with a mask
  // What stands between the stages, else null: see structure_backward.hpp.
  T* du;            // [H] what came through a projection
  const T* cell_x;  // [H] x^ of c~
  T* dn;            // [H] out: gradient of the normalised c~
  T* d_fresh;       // [H] gradient of c~ on the side of the output
  T* d_output;      // [H] out: da_o
  T* d_cell;        // [H] or, before it, [H] of i, out: da_f
  const T* kept_h;  // as in StepRow
  const T* kept_c;
  // Operand of dW_hh or dW_hr, and its line for this row's h as W_hh sees it, or u; null where it is not wanted.
  const Panels<T>* left;
  Index line;
};

// One row of the tape, at the step whose h is wanted.
template <class T>
struct TapeRow {
  Index H, P;
  const T* gates;  // [C*H]
  const T* h;      // [P] or null
  const T* c;      // [H]
  const T* h0;     // [P] if the row starts with the step after it, else null
  const T* next;   // [C*H] gates of the step after it
  const T* mask;   // [P] of recurrent dropout, or null
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
