// What the build for one instruction set exports: a table of function pointers.
#pragma once

#include "precision.hpp"
#include "team.hpp"

namespace pyrnn {

// One cell with its weights packed beforehand, in T or in the reduced precision that a call names; x, states
// and results are T.
template <class T>
struct FrozenKernels {
  std::size_t (*packed_bytes)(const Part<T>& part);
  // `packed` is aligned to a cache line.
  void (*pack)(const Part<T>& part, void* packed);
  // Of `part`, only what it has and how large that is.
  void (*unpack)(const void* packed, const Part<T>& part, const Unpacked<T>& to);
  void (*forward)(const Forward<T>* calls, int count, bool chained, Team& team);
  // A step of `count` layers that stand on each other; scratch of step_bytes, for the part of the largest I,
  // belongs to the caller, since a stream keeps its own: prepared once, for layers of which only rows and states
  // change.
  std::size_t (*step_bytes)(Index B, int count, const Part<T>& part);
  void (*prepare_step)(const Step<T>* layers, int count, void* scratch);
  void (*step)(const Step<T>* layers, void* scratch, Team& team);
};

// One cell in one dtype.
template <class T>
struct CellKernels {
  const char* name;           // "lstm", ...
  ActivationKind activation;  // of h or of the candidate, in the plain cell
  int gates;                  // G
  int columns;                // C
  bool has_c;                 // a cell state beside h
  bool tapes_h;               // the plain cell's tape holds h_t
  // `count` calls, side by side where that is faster. Chained: the x of each is the y of the one before
  // it, or its dy the other's dx; else none reads what another writes.
  void (*forward)(const Forward<T>* calls, int count, bool chained, Team& team);
  void (*backward)(const Backward<T>* calls, int count, bool chained, Team& team);
  // Of what backward packs, aligned to a cache line; forward's is that of `frozen`.
  std::size_t (*backward_bytes)(const Backward<T>& call);
  const FrozenKernels<T>* frozen;
  const FrozenKernels<T>* reduced;  // null: T has no reduced precision
};

template <class T>
struct DtypeKernels {
  const CellKernels<T>* cells;
  int cell_count;
  void (*linear_forward)(const Linear<T>& call, Team& team);
  void (*linear_backward)(const Linear<T>& call, Team& team);
  void (*drop)(const Dropout<T>& call);
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
  // Goes on with the bits of one more array.
  void (*fingerprint)(const void* data, Index bytes, Fingerprint& of);
  // Of any of the precisions, for the tests of their products.
  void (*reduced_product)(const ReducedProduct& call, Team& team);

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
