// int8: value = scale * q, q in -127..127, with one scale for each row of W and one for each row of A, the
// row's largest magnitude / 127. Sums are int32 and exact; both scales are multiplied in at the end.
//
// A row that holds NaN or inf has the scale NaN, and so are all results it is part of. A row whose values all
// lie below 2^-119 counts as zeros.
#pragma once

#include "reduced.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

struct Int8 : HoldsPlanes<Int8> {
  static constexpr const char* precision = "int8";
  using Value = std::int8_t;
  using Sum = Vec<std::int32_t>;
  struct Scale {
    float scale, inverse;
  };
  static constexpr int largest = 127;
  // Lines of a panel before its words: the scales, and -128 * (sum of q). The second serves VNNI and tiles
  // alone, but every ISA has it.
  static constexpr int header = 2, operand_header = words_at_once, trailer = 0;
  // depth * 127^2 has to fit in 31 bits.
  static constexpr Index max_depth = INT32_MAX / (largest * largest);

  static constexpr Index beside() { return 0; }

  static Scale scale_of(const float* a, Index n) {
    // As integers, magnitudes keep their order, and inf and NaN stand above all.
    Word top = 0;
    for (Index i = 0; i < n; ++i) {
      const Word magnitude = bit_cast<Word>(a[i]) & INT32_MAX;
      top = magnitude > top ? magnitude : top;
    }
    if (top >= 0x7f800000) return {__builtin_nanf(""), 0};
    const float value = bit_cast<float>(top);
    // Below, the inverse would overflow.
    if (value < 0x1p-119f) return {0, 0};
    return {value / largest, largest / value};
  }

  // `column` is a column of a panel of `lines` lines, its words in place.
  static void store_header(Scale scale, Word* column, Index lines) {
    std::uint32_t sum = 0;  // modulo 2^32, as vpdpbusd sums
    for (Index line = header; line < lines; ++line) {
      Value q[per_word<Int8>];
      std::memcpy(q, column + line * panel_width<Word>, sizeof(q));
      for (const Value value : q) sum += static_cast<std::uint32_t>(value);
    }
    column[0] = bit_cast<Word>(scale.scale);
    column[panel_width<Word>] = bit_cast<Word>(sum * std::uint32_t(-128));
  }
  static void store_operand_header(Scale scale, Word* operand) {
    operand[operand_header - 1] = bit_cast<Word>(scale.scale);
  }

  // The low byte of each lane. Adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low bits of
  // the mantissa.
  PYRNN_INLINE static Vec<Word> rounded(Vec<float> x, Scale scale) {
    const Vec<float> q = PYRNN_ISA::rounded(x * splat(scale.inverse));
    return bit_cast<Vec<Word>>(q + splat(0x1.8p23f));
  }
  template <class Values>
  PYRNN_INLINE static Values narrowed(Vec<float> x, Scale scale) {
    return narrow<Values>(rounded(x, scale));
  }

  // The products of value i of each word, for a row of A that is 1 there and 0 elsewhere: its q is 127.
  static constexpr float one_hot_scale = 1.0f / largest;
  PYRNN_INLINE static Sum one_hot(Vec<Word> words, int i) {
    return (words << (24 - 8 * i) >> 24) * splat(Word(largest));
  }
  // Value i of a word of the column whose header is at `head`. 127 times a scale has that scale again, for
  // every mantissa; only the largest of all numbers does not come back by it.
  PYRNN_INLINE static float value(Word word, int i, const Word* head) {
    const Word q = static_cast<Word>(std::uint32_t(word) << (24 - 8 * i)) >> 24;
    const float size = bit_cast<float>(head[0]) * static_cast<float>(q);
    constexpr float most = 0x1.fffffep127f;
    return size > most ? most : size < -most ? -most : size;  // NaN stays
  }

  // base + sum * (both scales).
  PYRNN_INLINE static Vec<float> result(Vec<float> base, Sum sum, const Word* head,
                                        const Word* operand) {
    const Vec<float> scale =
        bit_cast<Vec<float>>(load(head)) * splat(bit_cast<float>(operand[operand_header - 1]));
    return __builtin_convertvector(sum, Vec<float>) * scale + base;
  }

#if defined(__AVX512VNNI__) || defined(PYRNN_TILES)
  // vpdpbusd multiplies unsigned by signed bytes: q + 128 by q, less 128 times the sum of the latter. So do tiles.
  static constexpr int planes = 1, weight_planes = 1;

  template <int>
  PYRNN_INLINE static Vec<Word> plane(Vec<Word> words) {
    return words;
  }
  PYRNN_INLINE static Vec<Word> operand(Vec<Word> words) {
    return words ^ splat(bit_cast<Word>(0x80808080));
  }
  PYRNN_INLINE static Sum start(const Word* head) { return load(head + panel_width<Word>); }
#if defined(__AVX512VNNI__)
  PYRNN_INLINE static Sum add(Sum sum, Vec<Word> w, const Vec<Word>* x) {
    return bit_cast<Sum>(
        _mm512_dpbusd_epi32(bit_cast<__m512i>(sum), bit_cast<__m512i>(*x), bit_cast<__m512i>(w)));
  }
#endif
#elif defined(__AVX2__) && PYRNN_VECTOR_BYTES == 32
  // vpmaddubsw multiplies unsigned by signed bytes and adds two neighbours in 16 bits, which hold 2 * 127^2: the
  // magnitude of one by the other with the sign of the first.
  static constexpr int planes = 1, weight_planes = 1;

  template <int>
  PYRNN_INLINE static Vec<Word> plane(Vec<Word> words) {
    return words;
  }
  PYRNN_INLINE static Vec<Word> operand(Vec<Word> words) { return words; }
  PYRNN_INLINE static Sum start(const Word*) { return Sum{}; }
  PYRNN_INLINE static Sum add_pairs(Sum sum, __m256i magnitude, __m256i with_sign) {
    const __m256i pairs = _mm256_maddubs_epi16(magnitude, with_sign);
    return sum + bit_cast<Sum>(_mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
  }
  // Few rows: each has its magnitude ready.
  PYRNN_INLINE static Sum add(Sum sum, Vec<Word> w, const Vec<Word>* x) {
    const __m256i values = bit_cast<__m256i>(*x);
    return add_pairs(sum, _mm256_abs_epi8(values), _mm256_sign_epi8(bit_cast<__m256i>(w), values));
  }

  // More rows: W has, for all of them. Its signs come out of memory, since there is no register for them.
  struct Held {
    __m256i magnitude;
    const Word* words;
  };
  template <int>
  PYRNN_INLINE static Held held(const Word* words) {
    return {_mm256_abs_epi8(bit_cast<__m256i>(load(words))), words};
  }
  PYRNN_INLINE static Sum add(Sum sum, const Held& w, const Vec<Word>* x) {
    __m256i with_sign;
    asm("vpsignb %2, %1, %0"
        : "=x"(with_sign)
        : "x"(bit_cast<__m256i>(*x)), "m"(*reinterpret_cast<const __m256i_u*>(w.words)));
    return add_pairs(sum, w.magnitude, with_sign);
  }
#else
  static constexpr int planes = 2, weight_planes = 2;
  using Halves = Vec<std::int16_t>;

  // Bytes 0 and 2, or 1 and 3, of each word as int16.
  template <int odd>
  PYRNN_INLINE static Vec<Word> plane(Vec<Word> words) {
    const Halves halves = bit_cast<Halves>(words);
    return bit_cast<Vec<Word>>((odd == 1 ? halves : halves << 8) >> 8);
  }
  template <int odd>
  PYRNN_INLINE static Vec<Word> operand_plane(Vec<Word> words) {
    return plane<odd>(words);
  }
  PYRNN_INLINE static Sum start(const Word*) { return Sum{}; }

  // sum += the products of both int16.
  PYRNN_INLINE static Sum add(Sum sum, Vec<Word> w, const Vec<Word>* x) {
#if defined(__AVX512BW__)
    return sum + bit_cast<Sum>(_mm512_madd_epi16(bit_cast<__m512i>(w), bit_cast<__m512i>(*x)));
#elif defined(__SSE2__) && PYRNN_VECTOR_BYTES == 16
    return sum + bit_cast<Sum>(_mm_madd_epi16(bit_cast<__m128i>(w), bit_cast<__m128i>(*x)));
#else
    // A product of two q fits in 15 bits.
    const Sum both = bit_cast<Sum>(bit_cast<Halves>(w) * bit_cast<Halves>(*x));
    return sum + (both >> 16) + (both << 16 >> 16);
#endif
  }
#endif
};

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
