// Compiled once for each ISA of the list in CMakeLists.txt that does not share the table of another, with
// PYRNN_ISA its name. Exports one table; everything else is local to this object.
#include "../kernels.hpp"
#include "backward_phases.hpp"
#include "backward_start.hpp"
#include "backward_sums.hpp"
#include "elman.hpp"
#include "fingerprint.hpp"
#include "forward_phases.hpp"
#include "forward_products.hpp"
#include "forward_rows.hpp"
#include "gru.hpp"
#include "linear.hpp"
#include "lstm.hpp"
#include "masks.hpp"
#include "mgu.hpp"
#include "probe.hpp"
#include "reduced_product.hpp"
#include "step.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Cell, class T, class Operand>
constexpr FrozenKernels<T> frozen_kernels = {
    &Frozen<Cell, T, Operand>::bytes,    &Frozen<Cell, T, Operand>::pack,
    &Frozen<Cell, T, Operand>::unpack,   &ForwardScan<Cell, T, Operand>::run,
    &StackStep<Cell, T, Operand>::bytes, &StackStep<Cell, T, Operand>::prepare,
    &StackStep<Cell, T, Operand>::run};

template <class Cell, class T>
constexpr const FrozenKernels<T>* reduced_kernels = nullptr;
template <class Cell>
constexpr const FrozenKernels<float>* reduced_kernels<Cell, float> =
    &frozen_kernels<Cell, float, ReducedMatrix>;

// `own`: its activation, where a variant does not say another.
template <class Cell, class T>
constexpr CellKernels<T> kernels_of(const char* name = Cell::name,
                                    ActivationKind own = ActivationKind::tanh) {
  return {name,
          own,
          Cell::gates,
          Cell::columns,
          Cell::has_c,
          Cell::tapes_h,
          &ForwardScan<Cell, T>::run,
          &BackwardScan<Cell, T>::run,
          &BackwardScan<Cell, T>::packed_bytes,
          &frozen_kernels<Cell, T, Panels<T>>,
          reduced_kernels<Cell, T>};
}

// The cells that exist: a new one is one more line.
template <class T>
constexpr CellKernels<T> cells[] = {
    kernels_of<Elman, T>("rnn_tanh"), kernels_of<Elman, T>("rnn_relu", ActivationKind::relu),
    kernels_of<Elman, T>(),           kernels_of<Gru, T>(),
    kernels_of<GruResetBefore, T>(),  kernels_of<Lstm, T>(),
    kernels_of<CoupledLstm, T>(),     kernels_of<Mgu, T>(),
};

template <class T, Vec<T> (*f)(Vec<T>)>
void each(const T* x, T* y, Index n) {
  for_lanes<T>(0, n, [&](const auto& at) { at.store(y, f(at.load(x))); });
}

template <class T>
constexpr DtypeKernels<T> dtype_kernels = {cells<T>,
                                           static_cast<int>(sizeof(cells<T>) / sizeof(cells<T>[0])),
                                           &LinearForward<T>::run,
                                           &LinearBackward<T>::run,
                                           &drop<T>,
                                           &each<T, exp<T>>,
                                           &each<T, tanh<T>>,
                                           &each<T, sigmoid<T>>,
                                           &probe<T>,
                                           &read<T>};

}  // namespace

#define PYRNN_STRING_(x) #x
#define PYRNN_STRING(x) PYRNN_STRING_(x)

extern const KernelTable table;
const KernelTable table = {PYRNN_STRING(PYRNN_ISA), vector_bytes, dtype_kernels<float>,
                           dtype_kernels<double>,   &fingerprint, &ProductOf::run};

}  // namespace pyrnn::PYRNN_ISA
