// Compiled once for each ISA of the list in CMakeLists.txt, with PYRNN_ISA its name. Exports one table;
// everything else is local to this object.
#include "../kernels.hpp"
#include "backward.hpp"
#include "elman.hpp"
#include "forward.hpp"
#include "gru.hpp"
#include "linear.hpp"
#include "lstm.hpp"
#include "reduced_product.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Cell, class T>
constexpr CellKernels<T> cell_kernels = {Cell::name,
                                         Cell::gates,
                                         Cell::columns,
                                         Cell::has_c,
                                         Cell::tapes_h,
                                         &ForwardScan<Cell, T>::run,
                                         &BackwardScan<Cell, T>::run};

// The cells that exist: a new one is one more line.
template <class T>
constexpr CellKernels<T> cells[] = {
    cell_kernels<Elman<Tanh>, T>,    cell_kernels<Elman<Relu>, T>, cell_kernels<Gru, T>,
    cell_kernels<GruResetBefore, T>, cell_kernels<Lstm, T>,
};

template <class T, Vec<T> (*f)(Vec<T>)>
void each(const T* x, T* y, Index n) {
  for_lanes<T>(0, n, [&](const auto& at) { at.store(y, f(at.load(x))); });
}

// Twelve independent chains keep both pipes of any current core full.
template <class T>
Index probe(Index rounds, T* sink) {
  constexpr int chains = 12;
  Vec<T> sum[chains];
  for (int i = 0; i < chains; ++i) sum[i] = splat(T(i));
  Vec<T> a = splat(T(0.5)), b = splat(T(1));
  keep(a);
  keep(b);
  for (Index n = 0; n < rounds; ++n) {
#pragma GCC unroll 12
    for (int i = 0; i < chains; ++i) sum[i] = a * sum[i] + b;
  }
  for (int i = 0; i < chains; ++i) store_partial(sink, sum[i], 1);
  return rounds * chains * lanes<T> * 2;
}

// Eight chains of additions keep two loads a cycle busy.
template <class T>
void read(const T* data, Index n, Index rounds, T* sink) {
  constexpr int chains = 8;
  Vec<T> sum[chains] = {};
  for (Index round = 0; round < rounds; ++round) {
    for (Index i = 0; i + chains * lanes<T> <= n; i += chains * lanes<T>) {
#pragma GCC unroll 8
      for (int c = 0; c < chains; ++c) sum[c] += load(data + i + c * lanes<T>);
    }
  }
  for (int c = 0; c < chains; ++c) store_partial(sink, sum[c], 1);
}

template <class T>
constexpr DtypeKernels<T> dtype_kernels = {cells<T>,
                                           static_cast<int>(sizeof(cells<T>) / sizeof(cells<T>[0])),
                                           &LinearForward<T>::run,
                                           &LinearBackward<T>::run,
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
