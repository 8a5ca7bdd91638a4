// One row (sequence) at one step, as the pointwise part of a cell meets it.
#pragma once

#include "random.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// Forward; every pointer is to unit 0.
template <class T>
struct StepRow {
  Index H;
  T* gates;          // [C*H] with save: see Tape
  const T* h_prev;   // [H]
  const T* operand;  // [H] h_prev as W_hh sees it
  const T* c_prev;   // [H]
  T* h;              // [H]
  T* c;              // [H]
  T* tape_h;         // [H] or null
  T* reset_h;        // [H] r * operand of the reset-before GRU
  T* masked_h;       // [H] h as the next step's W_hh sees it, null without recurrent dropout
  const T* mask;     // [H] of recurrent dropout, or null
  RowKey key;        // of its masks
};

template <class T>
struct GradRow {
  Index H;
  const T* gates;     // [C*H]
  const T* h_prev;    // [H]
  const T* c_prev;    // [H]
  const T* c;         // [H]
  const T* dy;        // [H] or null
  const T* dcells;    // [H] or null
  T* dh;              // [H] in: dh_t less dy; out: what reaches h_{t-1} beside W_hh
  T* dc;              // [H] in: dc_t; out: dc_{t-1}
  T* d_reset_h;       // [H] in, phase 0 of the reset-before GRU
  const T* mask;      // [H] of recurrent dropout, or null
  const T* d_masked;  // [H] gradient of what W_hh saw of h_t, with a mask
  RowKey key;
};

// One row of the tape, at the step whose h is wanted.
template <class T>
struct TapeRow {
  Index H;
  const T* gates;  // [C*H]
  const T* h;      // [H] or null
  const T* c;      // [H]
  const T* h0;     // [H] if the row starts with the step after it, else null
  const T* next;   // [C*H] gates of the step after it
  const T* mask;   // [H] of recurrent dropout, or null
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
