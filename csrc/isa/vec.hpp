// Vec<T>: as many T as one register holds, by the compilers' vector extensions: load, store, partial
// lanes, shuffles. Arithmetic is written with operators; a * b + c becomes one fused operation where the
// ISA has it.
#pragma once

#include <cstdint>
#include <cstring>
#include <utility>

#include "../shapes.hpp"

#ifndef PYRNN_VECTOR_BYTES
#if defined(__AVX512F__)
#define PYRNN_VECTOR_BYTES 64
#elif defined(__AVX2__)
#define PYRNN_VECTOR_BYTES 32
#else
#define PYRNN_VECTOR_BYTES 16
#endif
#endif

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#define PYRNN_INLINE inline __attribute__((always_inline))

namespace pyrnn::PYRNN_ISA {
namespace {

constexpr int vector_bytes = PYRNN_VECTOR_BYTES;

// Architectural vector registers: 16 on x86 before AVX-512, 32 elsewhere.
#if defined(__x86_64__) && !defined(__AVX512F__)
constexpr int vector_registers = 16;
#else
constexpr int vector_registers = 32;
#endif

template <class T>
struct VecOf {
  typedef T type __attribute__((vector_size(PYRNN_VECTOR_BYTES)));
};
template <class T>
using Vec = typename VecOf<T>::type;

template <class T>
struct IntOf;
template <>
struct IntOf<float> {
  using type = std::int32_t;
};
template <>
struct IntOf<double> {
  using type = std::int64_t;
};
template <class T>
using IntVec = Vec<typename IntOf<T>::type>;

template <class T>
constexpr int lanes = vector_bytes / static_cast<int>(sizeof(T));

template <class To, class From>
PYRNN_INLINE To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &from, sizeof(to));
  return to;
}

template <class T>
PYRNN_INLINE Vec<T> load(const T* p) {
  Vec<T> v;
  std::memcpy(&v, p, sizeof(v));
  return v;
}

template <class T>
PYRNN_INLINE void store(T* p, Vec<T> v) {
  std::memcpy(p, &v, sizeof(v));
}

template <class T, int... Lane>
PYRNN_INLINE Vec<T> splat(T x, std::integer_sequence<int, Lane...>) {
  return Vec<T>{(static_cast<void>(Lane), x)...};  // this form, unlike a loop, becomes a broadcast
}

template <class T>
PYRNN_INLINE Vec<T> splat(T x) {
  return splat(x, std::make_integer_sequence<int, lanes<T>>());
}

// The first n < lanes values; the others are 0 and are not read.
template <class T>
PYRNN_INLINE Vec<T> load_partial(const T* p, int n) {
#if defined(__AVX2__) && PYRNN_VECTOR_BYTES == 32
  constexpr std::int32_t words = sizeof(T) / 4;
  const __m256i iota = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(n * words), iota);
  return bit_cast<Vec<T>>(_mm256_maskload_epi32(reinterpret_cast<const int*>(p), mask));
#else
  Vec<T> v = {};
  std::memcpy(&v, p, static_cast<std::size_t>(n) * sizeof(T));
  return v;
#endif
}

// Writes the first n < lanes values and nothing else.
template <class T>
PYRNN_INLINE void store_partial(T* p, Vec<T> v, int n) {
#if defined(__AVX2__) && PYRNN_VECTOR_BYTES == 32
  constexpr std::int32_t words = sizeof(T) / 4;
  const __m256i iota = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(n * words), iota);
  _mm256_maskstore_epi32(reinterpret_cast<int*>(p), mask, bit_cast<__m256i>(v));
#else
  std::memcpy(p, &v, static_cast<std::size_t>(n) * sizeof(T));
#endif
}

// Lanes of `a` where the mask is all ones, of `b` where it is all zeros.
template <class T>
PYRNN_INLINE Vec<T> select(IntVec<T> mask, Vec<T> a, Vec<T> b) {
  return mask ? a : b;
}

// x, but no less or no more than a bound; NaN stays NaN. The processors' own operations do this where NaN is
// the second operand; compilers, not told so, make two of it.
#if defined(__x86_64__) && (PYRNN_VECTOR_BYTES <= 32 || defined(__AVX512F__))
#if PYRNN_VECTOR_BYTES == 64
// g++ warns of what the forms without a mask start from.
constexpr __mmask16 all_ps = 0xffff;
constexpr __mmask8 all_pd = 0xff;
#define PYRNN_X86(operation, type, a, b) _mm512_maskz_##operation##_##type(all_##type, a, b)
#elif PYRNN_VECTOR_BYTES == 32
#define PYRNN_X86(operation, type, a, b) _mm256_##operation##_##type(a, b)
#else
#define PYRNN_X86(operation, type, a, b) _mm_##operation##_##type(a, b)
#endif
PYRNN_INLINE Vec<float> at_least(Vec<float> x, Vec<float> low) {
  return PYRNN_X86(max, ps, low, x);
}
PYRNN_INLINE Vec<float> at_most(Vec<float> x, Vec<float> high) {
  return PYRNN_X86(min, ps, high, x);
}
PYRNN_INLINE Vec<double> at_least(Vec<double> x, Vec<double> low) {
  return PYRNN_X86(max, pd, low, x);
}
PYRNN_INLINE Vec<double> at_most(Vec<double> x, Vec<double> high) {
  return PYRNN_X86(min, pd, high, x);
}
#undef PYRNN_X86
#else
template <class V>
PYRNN_INLINE V at_least(V x, V low) {
  return x < low ? low : x;
}
template <class V>
PYRNN_INLINE V at_most(V x, V high) {
  return x > high ? high : x;
}
#endif

// Ends the contraction of a product into a fused operation: where a sum has two products, this says
// which one is rounded, so that every instantiation gives the same bits.
template <class V>
PYRNN_INLINE V rounded(V v) {
#if defined(__aarch64__)
  asm("" : "+w"(v));
#elif defined(__AVX512F__)
  asm("" : "+v"(v));
#elif defined(__x86_64__) && PYRNN_VECTOR_BYTES <= 32
  asm("" : "+x"(v));
#else
  asm("" : "+m"(v));
#endif
  return v;
}

// a * b. A product that is denormal takes Zen 4 some 36 cycles more, a fused operation with the same result
// none; the -0, hidden from the compiler, changes no bit.
template <class T>
PYRNN_INLINE Vec<T> product(Vec<T> a, Vec<T> b) {
#if defined(__x86_64__) && !defined(__FMA__)
  return a * b;
#else
  return a * b + rounded(splat(T(-0.0)));
#endif
}

template <int... Lane, class V>
PYRNN_INLINE V shuffle(V a, V b) {
#if defined(__clang__) || __GNUC__ >= 12
  return __builtin_shufflevector(a, b, Lane...);
#else
  if constexpr (sizeof(a[0]) == 4) {
    return __builtin_shuffle(a, b, Vec<std::int32_t>{Lane...});
  } else {
    return __builtin_shuffle(a, b, Vec<std::int64_t>{Lane...});
  }
#endif
}

// Of two vectors the lanes in turn: the first half of them in `a`, the second in `b`.
template <class T, int... Lane>
PYRNN_INLINE void interleave(Vec<T>& a, Vec<T>& b, std::integer_sequence<int, Lane...>) {
  constexpr int N = lanes<T>;
  const Vec<T> first = shuffle<((Lane & 1) * N + Lane / 2)...>(a, b);
  b = shuffle<((Lane & 1) * N + (N + Lane) / 2)...>(a, b);
  a = first;
}

template <class T>
PYRNN_INLINE void interleave(Vec<T>& a, Vec<T>& b) {
  interleave<T>(a, b, std::make_integer_sequence<int, lanes<T>>());
}

// One stage of a transpose: rows i and i + W exchange their off-diagonal groups of W lanes.
template <int W, int N, class V, int... Lane>
PYRNN_INLINE void exchange(V& a, V& b, std::integer_sequence<int, Lane...>) {
  const V low = shuffle<((Lane & W) ? Lane - W + N : Lane)...>(a, b);
  const V high = shuffle<((Lane & W) ? Lane + N : Lane + W)...>(a, b);
  a = low;
  b = high;
}

// Transposes a square of lanes<T> vectors in place.
template <class T, int W = lanes<T> / 2>
PYRNN_INLINE void transpose(Vec<T> (&row)[lanes<T>]) {
  if constexpr (W >= 1) {
    constexpr int N = lanes<T>;
#pragma GCC unroll 16
    for (int i = 0; i < N; ++i) {
      if (!(i & W)) exchange<W, N>(row[i], row[i + W], std::make_integer_sequence<int, N>());
    }
    transpose<T, W / 2>(row);
  }
}

// Where in a row of units the pointwise code stands: all lanes, or the first n at a row's end. The same
// code runs on both.
template <class T, bool full>
struct Lanes {
  Index unit;
  int n;

  PYRNN_INLINE Vec<T> load(const T* row) const {
    if constexpr (full) {
      return PYRNN_ISA::load(row + unit);
    } else {
      return load_partial(row + unit, n);
    }
  }
  PYRNN_INLINE void store(T* row, Vec<T> v) const {
    if constexpr (full) {
      PYRNN_ISA::store(row + unit, v);
    } else {
      store_partial(row + unit, v, n);
    }
  }
};

// Calls f(Lanes) over units [first, last).
template <class T, class F>
PYRNN_INLINE void for_lanes(Index first, Index last, F f) {
  Index unit = first;
  for (; unit + lanes<T> <= last; unit += lanes<T>) f(Lanes<T, true>{unit, lanes<T>});
  if (unit < last) f(Lanes<T, false>{unit, static_cast<int>(last - unit)});
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
