// bfloat16: the upper half of a float32, rounded to the nearest, ties to even. Products and sums are float32; of a word,
// the product of the later values is added first.
//
// vdpbf16ps takes denormals for 0 and gives 0 for them: with it, results below 2^-126 are 0. So does what rounds to
// bfloat16 where there is that. With fused multiply-adds its sums have the same bits where no denormal occurs (dot.hpp).
#pragma once

#include "reduced.hpp"

// Whether vdpbf16ps is what multiplies.
#if defined(__AVX512BF16__) && !defined(PYRNN_TILES)
#define PYRNN_DOT 1
#endif

namespace pyrnn::PYRNN_ISA {
namespace {

#if defined(PYRNN_DOT)
// Intel's processors start one vdpbf16ps every other cycle, and four fused multiply-adds in that time, of twice as many
// products.
inline bool dot_is_slow() { return __builtin_cpu_is("intel") != 0; }
#endif

struct Bfloat16 : HoldsPlanes<Bfloat16> {
  static constexpr const char* precision = "bfloat16";
  using Value = std::uint16_t;
  using Sum = Vec<float>;
  struct Scale {};
  static constexpr int header = 0, operand_header = 0;
  static constexpr Index max_depth = PTRDIFF_MAX;
#if defined(PYRNN_DOT)
  // The least magnitude of rows; and beside the words of a row, its values as float32.
  static constexpr int trailer = 1;
  static Index beside() { return dot_is_slow() ? 2 : 0; }
#else
  static constexpr int trailer = 0;
  static constexpr Index beside() { return 0; }
#endif

  static Scale scale_of(const float*, Index) { return {}; }
  static void store_header(Scale, Word*, Index) {}
  static void store_operand_header(Scale, Word*) {}

  // NaN keeps its sign and upper bits, and stays NaN; what rounds above the largest becomes inf.
  template <class Values>
  PYRNN_INLINE static Values narrowed(Vec<float> x, Scale) {
#if defined(__AVX512BF16__)
    return bit_cast<Values>(_mm512_cvtneps_pbh(bit_cast<__m512>(x)));
#else
    using Bits = Vec<std::uint32_t>;
    const Bits bits = bit_cast<Bits>(x);
    const Bits nearest = bits + splat(0x7fffu) + (bits >> 16 & splat(1u));
    const auto number = (bits & splat(0x7fffffffu)) <= splat(0x7f800000u);
    return narrow<Values>((number ? nearest : bits | splat(0x400000u)) >> 16);
#endif
  }

  // The products of value i of each word, for a row of A that is 1 there and 0 elsewhere.
  static constexpr float one_hot_scale = 1;
  PYRNN_INLINE static Sum one_hot(Vec<Word> words, int i) {
    return bit_cast<Sum>(i == 1 ? words & splat(Word(-0x10000)) : words << 16);
  }
  // Value i of a word of the column whose header is at `head`.
  PYRNN_INLINE static float value(Word word, int i, const Word*) {
    return bit_cast<float>(i == 1 ? word & Word(-0x10000)
                                  : static_cast<Word>(std::uint32_t(word) << 16));
  }

  PYRNN_INLINE static Vec<Word> operand(Vec<Word> words) { return words; }
  PYRNN_INLINE static Sum start(const Word*) { return Sum{}; }
  PYRNN_INLINE static Vec<float> result(Vec<float> base, Sum sum, const Word*, const Word*) {
    return base + sum;
  }

#if defined(PYRNN_TILES)
  static constexpr int planes = 1, weight_planes = 1;  // the product is that of tiles.hpp
#elif defined(PYRNN_DOT)
  static constexpr int planes = 1, weight_planes = 1;

  static void store_trailer(const float* w, Index n, Word* trailer);

  template <int>
  PYRNN_INLINE static Vec<Word> plane(Vec<Word> words) {
    return words;
  }
  PYRNN_INLINE static Sum add(Sum sum, Vec<Word> w, const Vec<Word>* x) {
    return bit_cast<Sum>(
        _mm512_dpbf16_ps(bit_cast<__m512>(sum), bit_cast<__m512bh>(w), bit_cast<__m512bh>(*x)));
  }
#else
  static constexpr int planes = 2, weight_planes = 2;

  // The later or the earlier value of each word, as float32.
  template <int part>
  PYRNN_INLINE static Vec<Word> plane(Vec<Word> words) {
    return part == 0 ? words & splat(Word(-0x10000)) : words << 16;
  }
  template <int part>
  PYRNN_INLINE static Vec<Word> operand_plane(Vec<Word> words) {
    return plane<part>(words);
  }
#if defined(__AVX2__) && PYRNN_VECTOR_BYTES == 32
  // Beside 6 x 2 sums there is no register for a constant.
  template <int part>
  PYRNN_INLINE static Held held(const Word* at) {
    Vec<Word> words = load(at);
    if constexpr (part == 1) return words << 16;
    alignas(32) static constexpr Word upper[] = {-0x10000, -0x10000, -0x10000, -0x10000,
                                                 -0x10000, -0x10000, -0x10000, -0x10000};
    asm("vpand %1, %0, %0" : "+x"(words) : "m"(upper));
    return words;
  }
#endif
  PYRNN_INLINE static Sum add(Sum sum, Vec<Word> w, const Vec<Word>* x) {
    return bit_cast<Sum>(w) * bit_cast<Sum>(*x) + sum;
  }
#endif
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
