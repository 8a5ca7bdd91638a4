// Reduced precision as an operand of Weights: what weights.hpp asks of a packed matrix.
#pragma once

#include "bfloat16.hpp"
#include "int8.hpp"
#include "weights.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Format>
void take_panels(ReducedPanels<Format>& b, Carver& carver) {
  b.data = carver.take<Word>(b.size());
}

// A W that packs to the same panels: the rounded one.
template <class Format>
void unpack_transposed(const ReducedPanels<Format>& b, float* w) {
  constexpr Index width = panel_width<Word>;
  for (Index p = 0; p < b.count(); ++p) {
    for (int column = 0; column < b.width(p); ++column) {
      const Word* const head = b.panel(p) + column;
      const Word* const words = head + Format::header * width;
      float* const row = w + (b.row(p) + column) * b.depth;
      for (Index k = 0; k < b.depth; ++k) {
        const int i = static_cast<int>(k % per_word<Format>);
        row[k] = Format::value(words[k / per_word<Format> * width], i, head);
      }
    }
  }
}

// sums = base + row k of B, with the bits of the product with a one-hot vector.
template <class Format>
PYRNN_INLINE void add_line(const ReducedPanels<Format>& b, Index p, Index k, const float* base,
                           float* sums) {
  const Index column = b.column(p);
  const int i = static_cast<int>(k % per_word<Format>);
  const Word* const head = b.panel(p);
  const Word* const line = head + (Format::header + k / per_word<Format>)*panel_width<Word>;
  const Word operand = bit_cast<Word>(Format::one_hot_scale);
  for (int v = 0; v < panel_vectors; ++v) {
    const auto sum = Format::one_hot(load(line + v * lanes<Word>), i);
    const Index at = column + v * lanes<Word>;
    store(sums + at, Format::result(load(base + at), sum, head + v * lanes<Word>, &operand));
  }
}

template <class Format>
PYRNN_INLINE Index prepared_words(const ReducedPanels<Format>& b) {
  return operand_words<Format>(b.depth);
}

template <class Format>
PYRNN_INLINE ReducedRows prepared(const ReducedPanels<Format>& b, Index n, const float* const* a,
                                  float* const* c, Word* buffer) {
  const Index stride = prepared_words(b);
  for (Index i = 0; i < n; ++i) prepare<Format>(a[i], b.depth, buffer + i * stride);
  return {buffer, stride, c};
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
