// What the build for one instruction set exports: a table of function pointers.
#pragma once

#include "shapes.hpp"
#include "team.hpp"

namespace pyrnn {

// One cell in one dtype.
template <class T>
struct CellKernels {
  const char* name;  // "lstm", ...
  int gates;         // G
  int columns;       // C
  bool has_c;        // a cell state beside h
  bool tapes_h;      // the tape holds h_t
  // `count` calls, side by side where that is faster. Chained: the x of each is the y of the one before
  // it, or its dy the other's dx; else none reads what another writes.
  void (*forward)(const Forward<T>* calls, int count, bool chained, Team& team);
  void (*backward)(const Backward<T>* calls, int count, bool chained, Team& team);
};

template <class T>
struct DtypeKernels {
  const CellKernels<T>* cells;
  int cell_count;
  void (*linear_forward)(const Linear<T>& call, Team& team);
  void (*linear_backward)(const Linear<T>& call, Team& team);
  // Elementwise functions over n values, for the tests of their accuracy.
  void (*exp)(const T* x, T* y, Index n);
  void (*tanh)(const T* x, T* y, Index n);
  void (*sigmoid)(const T* x, T* y, Index n);
  // Runs independent fused multiply-adds, 2 * `lanes` FLOPs each; returns how many it ran.
  Index (*probe)(Index rounds, T* sink);
  // Reads n values `rounds` times, as fast as it can.
  void (*read)(const T* data, Index n, Index rounds, T* sink);
};

struct KernelTable {
  const char* isa;
  int vector_bytes;
  DtypeKernels<float> f32;
  DtypeKernels<double> f64;

  template <class T>
  const DtypeKernels<T>& of() const {
    if constexpr (sizeof(T) == sizeof(float)) {
      return f32;
    } else {
      return f64;
    }
  }
};

}  // namespace pyrnn
