// bfloat16 with vdpbf16ps, or, where that is slow and there are rows enough, with the fused multiply-adds of AVX-512, whose
// sums have the same bits as long as none is denormal.
#pragma once

#include "bfloat16.hpp"

#if defined(PYRNN_DOT)

namespace pyrnn::avx512 {
extern const Precision precisions[];  // bfloat16 first
}

namespace pyrnn::PYRNN_ISA {
namespace {

// One row waits for memory, and not for products.
constexpr Index least_rows_as_floats = 2;

// A product of two bfloat16 is a multiple of 2^-14 times the largest powers of two in both, and so is each sum of such
// products, rounded or not. Where those powers make 2^-112 or more, none lies between 0 and 2^-126. So this is the least
// magnitude, beside 0, that rows may have for n weights.
inline void Bfloat16::store_trailer(const float* w, Index n, Word* trailer) {
  constexpr Index at_once = 512;
  constexpr Word infinity = 0x7f80, bias = 127, mantissa = 7;
  Word words[at_once / 2], least = infinity;
  for (Index i = 0; i < n; i += at_once) {
    const Index some = min(at_once, n - i);
    encode<Bfloat16>(w + i, some, {}, words);
    for (Index k = 0; k < 2 * words_of<Bfloat16>(some); ++k) {
      const Word magnitude = words[k / 2] >> (k % 2 * 16) & 0x7fff;
      if (magnitude != 0 && magnitude < least) least = magnitude;
    }
  }
  const Word exponent = bias - 112 - ((least >> mantissa) - bias);
  trailer[0] = (exponent < 1 ? 1 : exponent) << 23;  // of a float32
}

// The values of each word in the order of Bfloat16::plane, behind the words of the row. False where one is less than
// `least`, and not 0.
inline bool row_as_floats(Word least, Index words, Word* row) {
  using Bits = Vec<std::uint32_t>;
  const Bits below_least = splat(static_cast<std::uint32_t>(least) - 1);
  Bits small{};
  for_lanes<Word>(0, words, [&](const auto& at) {
    const Vec<Word> both = at.load(row);
    const Vec<float> later = Bfloat16::one_hot(both, 1), earlier = Bfloat16::one_hot(both, 0);
    const auto look_at = [&](Vec<float> values) {
      const Bits magnitude = bit_cast<Bits>(values) & splat(0x7fffffffu);
      small |= bit_cast<Bits>(magnitude - 1 < below_least);  // 0 - 1 is the largest of all
    };
    look_at(later);
    look_at(earlier);
    store_pairs(at, reinterpret_cast<float*>(row + words), later, earlier);
  });
  std::uint32_t any = 0;
  for (int lane = 0; lane < lanes<Word>; ++lane) any |= small[lane];
  return any == 0;
}

inline bool rows_as_floats(const ReducedMatrix& matrix, Index count, Word* rows, Index stride) {
  if (count < least_rows_as_floats || !dot_is_slow()) return false;
  const ReducedPanels<Bfloat16> b(matrix);
  if (b.count() == 0) return false;  // nothing was packed
  for (Index i = 0; i < count; ++i) {
    if (!row_as_floats(*b.trailer(), words_of<Bfloat16>(b.depth), rows + i * stride)) return false;
  }
  return true;
}

inline void multiply_dot(Index count, const ReducedRows& rows, const ReducedMatrix& matrix,
                         Index first, Index last, const float* base_row) {
  if (!rows.as_floats) {
    return multiply_reduced<Bfloat16>(count, rows, matrix, first, last, base_row);
  }
  const Word* const floats = rows.a + words_of<Bfloat16>(matrix.depth);
  avx512::precisions[0].multiply(count, {floats, rows.stride, rows.c}, matrix, first, last,
                                 base_row);
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA

#endif
