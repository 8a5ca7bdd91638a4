// Compiled once for each ISA of the list in CMakeLists.txt, with PYRNN_ISA its name. Exports one table;
// everything else is local to this object.
#include "../kernels.hpp"
#include "backward_phases.hpp"
#include "backward_sums.hpp"
#include "elman.hpp"
#include "forward_phases.hpp"
#include "forward_rows.hpp"
#include "gru.hpp"
#include "linear.hpp"
#include "lstm.hpp"
#include "masks.hpp"
#include "mgu.hpp"
#include "probe.hpp"
#include "reduced_product.hpp"
#include "reduced_weights.hpp"
#include "step.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Cell, class T, class Operand>
constexpr FrozenKernels<T> frozen_kernels = {Operand::precision,
                                             Operand::max_depth,
                                             &Frozen<Cell, T, Operand>::bytes,
                                             &Frozen<Cell, T, Operand>::pack,
                                             &Frozen<Cell, T, Operand>::unpack,
                                             &ForwardScan<Cell, T, Operand>::run,
                                             &StackStep<Cell, T, Operand>::bytes,
                                             &StackStep<Cell, T, Operand>::run};

// The precisions of frozen weights, by the dtype of x and y: a new one is one more line.
template <class Cell, class T>
constexpr FrozenKernels<T> precisions[] = {
    frozen_kernels<Cell, T, Panels<T>>,
};
template <class Cell>
constexpr FrozenKernels<float> precisions<Cell, float>[] = {
    frozen_kernels<Cell, float, Panels<float>>,
    frozen_kernels<Cell, float, ReducedPanels<Bfloat16>>,
    frozen_kernels<Cell, float, ReducedPanels<Int8>>,
};

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
          precisions<Cell, T>,
          static_cast<int>(sizeof(precisions<Cell, T>) / sizeof(FrozenKernels<T>))};
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
const KernelTable table = {PYRNN_STRING(PYRNN_ISA),
                           vector_bytes,
                           dtype_kernels<float>,
                           dtype_kernels<double>,
                           {reduced_kernel<Bfloat16>, reduced_kernel<Int8>}};

}  // namespace pyrnn::PYRNN_ISA
