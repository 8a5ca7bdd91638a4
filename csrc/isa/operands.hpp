// What Weights asks of a packed matrix. Its type is the precision: Panels<T> keeps the values themselves,
// ReducedMatrix calls the functions of its Precision.
#pragma once

#include "../precision.hpp"
#include "pack.hpp"
#include "scan.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class T>
PYRNN_INLINE void start_matrix(Panels<T>&, const Precision*) {}

// Weights that are read, or multiplied, in the time of one of T.
PYRNN_INLINE int speed_of(const Precision* precision) {
  return precision == nullptr ? 1 : precision->speed;
}

template <class T>
void take_panels(Panels<T>& b, Carver& carver) {
  b.data = carver.take<T>(b.size());
}

// The W that pack_transposed packed.
template <class T>
void unpack_transposed(const Panels<T>& b, T* w) {
  for (Index p = 0; p < b.count(); ++p) {
    T* const to = w + (p % b.groups * b.columns + p / b.groups * panel_width<T>)*b.depth;
    const T* const from = b.panel(p);
    const Index next = b.line_step(p);
    for (int column = 0; column < b.width(p); ++column) {
      for (Index k = 0; k < b.depth; ++k) to[column * b.depth + k] = from[k * next + column];
    }
  }
}

// sums = base + row k of B, in the columns of those panels: the product with a one-hot vector.
template <class T>
void add_line(const Panels<T>& b, Index first, Index last, Index k, const T* base, T* sums) {
  for (Index p = first; p < last; ++p) {
    const Index column = b.column(p);
    const T* const line = b.panel(p) + k * b.line_step(p);
    for (int v = 0; v < panel_vectors; ++v) {
      const Index at = column + v * lanes<T>;
      store(sums + at, load(base + at) + load(line + v * lanes<T>));
    }
  }
}

// 32-bit words that a row of A takes once it is prepared for the product: none, it is read as it is.
template <class T>
PYRNN_INLINE Index prepared_words(const Panels<T>&) {
  return 0;
}

// n rows of A as the product takes them; `buffer` is [n, prepared_words].
template <class T>
PYRNN_INLINE RowPointers<T> prepared(const Panels<T>&, Index, const T* const* a, T* const* c,
                                     std::int32_t*) {
  return {a, 1, c};
}

// --- reduced precision -----------------------------------------------------------------------------------

PYRNN_INLINE void start_matrix(ReducedMatrix& b, const Precision* precision) {
  b.precision = precision;
}

PYRNN_INLINE void take_panels(ReducedMatrix& b, Carver& carver) {
  b.data = carver.take<Word>(b.precision->size(b));
}

PYRNN_INLINE void pack_transposed(const ReducedMatrix& b, const float* w, Index first, Index last) {
  b.precision->pack(b, w, first, last);
}

PYRNN_INLINE void unpack_transposed(const ReducedMatrix& b, float* w) { b.precision->unpack(b, w); }

PYRNN_INLINE void add_line(const ReducedMatrix& b, Index first, Index last, Index k,
                           const float* base, float* sums) {
  b.precision->add_line(b, first, last, k, base, sums);
}

PYRNN_INLINE Index prepared_words(const ReducedMatrix& b) {
  return b.precision->operand_words(b.depth);
}

PYRNN_INLINE ReducedRows prepared(const ReducedMatrix& b, Index n, const float* const* a,
                                  float* const* c, Word* buffer) {
  const Precision& precision = *b.precision;
  const Index stride = prepared_words(b);
  for (Index i = 0; i < n; ++i) precision.prepare(a[i], b.depth, buffer + i * stride);
  const bool as_floats =
      precision.as_floats != nullptr && precision.as_floats(b, n, buffer, stride);
  return {buffer, stride, c, as_floats};
}

// After a thread's last product: what those hold of the thread is given back. Called at the end and not by a destructor,
// whose clean-up after exceptions, of which there are none, would be one more symbol of each kernel table.
PYRNN_INLINE void leave_products(const Precision* precision) {
  if (precision->leave != nullptr) precision->leave();
}

template <Base base>
PYRNN_INLINE void multiply(Index count, const ReducedRows& rows, const ReducedMatrix& b,
                           Index first, Index last, const float* base_row = nullptr) {
  static_assert(base != Base::zero);
  b.precision->multiply(count, rows, b, first, last, base_row);
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
