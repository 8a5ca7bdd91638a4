// Compiled once for each ISA, as table.cpp is: the precisions below float32. Exports one list.
#include "bfloat16.hpp"
#include "dot.hpp"
#include "int8.hpp"
#include "tiles.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class Format>
Index reduced_size(const ReducedMatrix& matrix) {
  return ReducedPanels<Format>(matrix).size();
}

template <class Format>
void unpack_reduced(const ReducedMatrix& matrix, float* w) {
  constexpr Index width = panel_width<Word>;
  const ReducedPanels<Format> b(matrix);
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

// With the bits of the product.
template <class Format>
void add_reduced_line(const ReducedMatrix& matrix, Index first, Index last, Index k,
                      const float* base, float* sums) {
  const ReducedPanels<Format> b(matrix);
  const int i = static_cast<int>(k % per_word<Format>);
  Word operand[Format::operand_header + 1] = {};
  if constexpr (Format::operand_header > 0) {
    operand[Format::operand_header - 1] = bit_cast<Word>(Format::one_hot_scale);
  }
  for (Index p = first; p < last; ++p) {
    const Word* const head = b.panel(p);
    const Word* const line = head + (Format::header + k / per_word<Format>)*panel_width<Word>;
    for (int v = 0; v < panel_vectors; ++v) {
      const auto sum = Format::one_hot(load(line + v * lanes<Word>), i);
      const Index at = b.column(p) + v * lanes<Word>;
      store(sums + at, Format::result(load(base + at), sum, head + v * lanes<Word>, operand));
    }
  }
}

#if defined(PYRNN_TILES)
template <class Format>
constexpr auto multiply_by = &multiply_tiles<Format>;
template <class Format>
constexpr decltype(Precision::multiply_both) multiply_both_by =
    adds_to_base<Format> ? &multiply_both_tiles<Format> : nullptr;
constexpr auto leave = &leave_tiles;
#else
template <class Format>
constexpr auto multiply_by = &multiply_reduced<Format>;
template <class Format>
constexpr std::nullptr_t multiply_both_by = nullptr;
constexpr std::nullptr_t leave = nullptr;
#endif

template <class Format>
constexpr decltype(Precision::as_floats) as_floats_of = nullptr;
#if defined(PYRNN_DOT)
template <>
constexpr auto multiply_by<Bfloat16> = &multiply_dot;
template <>
constexpr decltype(Precision::as_floats) as_floats_of<Bfloat16> = &rows_as_floats;
#endif

template <class Format>
constexpr Precision precision_of = {Format::precision,
                                    Format::max_depth,
                                    per_word<Format>,
                                    &reduced_size<Format>,
                                    &operand_words<Format>,
                                    &prepare<Format>,
                                    as_floats_of<Format>,
                                    &pack_reduced<Format>,
                                    &unpack_reduced<Format>,
                                    &add_reduced_line<Format>,
                                    multiply_by<Format>,
                                    multiply_both_by<Format>,
                                    leave};

}  // namespace

// A new one is one more line. What has instructions for one of them alone takes the other of the instruction set that it
// extends (CMakeLists.txt).
extern const Precision precisions[];
#if defined(__AVX512BF16__) && !defined(PYRNN_TILES)
const Precision precisions[] = {precision_of<Bfloat16>, {}};
#elif defined(__AVX512VNNI__)
const Precision precisions[] = {precision_of<Int8>, {}};
#else
const Precision precisions[] = {precision_of<Bfloat16>, precision_of<Int8>, {}};
#endif

}  // namespace pyrnn::PYRNN_ISA
