// exp, tanh and sigmoid on Vec<T>, over the whole range of T, denormals, infinities and NaN included:
//
//   x = n ln2 + r, |r| <= ln2/2      exp(x)     = 2^n + 2^n expm1(r)
//   expm1(r) = r + r^2 q(r)          sigmoid(x) = (x < 0 ? e : 1) / (1 + e), e = exp(-|x|)
//                                    tanh(x)    = m / (2 - m) with the sign of x, m = -expm1(-2|x|)
//
// tests/test_vecmath.py measures the error. q is the minimax polynomial on |r| <= ln2/2.
#pragma once

#include "vec.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class T>
struct Exp;

template <>
struct Exp<float> {
  static constexpr float q[] = {1.9891030654e-4f, 1.3933685863e-3f, 8.3333108896e-3f,
                                4.1666464602e-2f, 1.6666666682e-1f, 5.0000000135e-1f};
  static constexpr float log2e = 1.44269504f;
  // n * ln2_high is exact for every n that occurs.
  static constexpr float ln2_high = 0.693115234375f, ln2_low = 3.19461849e-5f;
  // Adding it leaves n + bias, for |n| < 2^21, in the low bits of the mantissa: shifted into the exponent,
  // they are 2^n.
  static constexpr float round = 12582912.0f + 127.0f;  // 1.5 * 2^23 + bias
  static constexpr int mantissa = 23;
  // exp is 0 below and inf above; tanh is 1 from `one` on.
  static constexpr float lowest = -104.0f, highest = 89.0f, one = 10.0f;
  // 2^shift brings the n of every denormal among the normal exponents.
  static constexpr float shift = 64.0f, unshift = 0x1p-64f;
  // Below it tanh(x) is x and sigmoid(x) 1/2. What is computed of it stays clear of denormals, which take
  // processors up to 100 times as long.
  static constexpr float tiny = 0x1p-40f;
};

template <>
struct Exp<double> {
  static constexpr double q[] = {2.0914717341716375952e-9,
                                 2.5105259538448493419e-8,
                                 2.7557273570102139673e-7,
                                 2.7557255297969644392e-6,
                                 2.4801587325605322782e-5,
                                 1.9841269874901259234e-4,
                                 1.3888888888883731828e-3,
                                 8.3333333333261120526e-3,
                                 4.1666666666669769767e-2,
                                 1.6666666666666671008e-1,
                                 0.5};
  static constexpr double log2e = 1.4426950408889634;
  static constexpr double ln2_high = 0.6931467056274414, ln2_low = 4.7493250390316723e-7;
  static constexpr double round = 6755399441055744.0 + 1023.0;  // 1.5 * 2^52 + bias
  static constexpr int mantissa = 52;
  static constexpr double lowest = -746.0, highest = 710.0, one = 20.0;
  static constexpr double shift = 128.0, unshift = 0x1p-128;
  static constexpr double tiny = 0x1p-80;
};

// x = n ln2 + r; gives expm1(r) and 2^(n + shift), for x within lowest..highest, or NaN.
template <class T>
struct Reduced {
  Vec<T> expm1, scale;
};

template <class T>
PYRNN_INLINE Reduced<T> reduce(Vec<T> x, T shift) {
  using E = Exp<T>;
  const Vec<T> round = splat(E::round);
  const Vec<T> rounded_n = x * splat(E::log2e) + round;
  const Vec<T> n = rounded_n - round;
  Vec<T> r = x - n * splat(E::ln2_high);
  r = r - n * splat(E::ln2_low);
  Vec<T> q = splat(E::q[0]);
#pragma GCC unroll 16
  for (std::size_t i = 1; i < sizeof(E::q) / sizeof(T); ++i) q = q * r + splat(E::q[i]);
  const Vec<T> exponent = shift == 0 ? rounded_n : rounded_n + splat(shift);
  return {r * r * q + r, bit_cast<Vec<T>>(bit_cast<IntVec<T>>(exponent) << E::mantissa)};
}

// exp for x <= 0: the final product alone reaches the denormals, with one rounding.
template <class T>
PYRNN_INLINE Vec<T> exp_not_above_one(Vec<T> x) {
  const Reduced<T> e = reduce<T>(at_least(x, splat(Exp<T>::lowest)), Exp<T>::shift);
  return (e.expm1 * e.scale + e.scale) * splat(Exp<T>::unshift);
}

// 2^n alone overflows before exp does.
template <class T>
PYRNN_INLINE Vec<T> exp(Vec<T> x) {
  const Vec<T> zero = {};
  const Vec<T> below = exp_not_above_one<T>(x < zero ? x : zero);  // of NaN that of 0
  const Reduced<T> e = reduce<T>(at_most(x, splat(Exp<T>::highest)), T(-1));
  const Vec<T> above = (e.expm1 * e.scale + e.scale) * splat(T(2));
  return x < zero ? below : above;
}

template <class T>
PYRNN_INLINE Vec<T> sigmoid(Vec<T> x) {
  const IntVec<T> bits = bit_cast<IntVec<T>>(x);
  const IntVec<T> sign = bit_cast<IntVec<T>>(splat(T(-0.0)));
  const Vec<T> one = splat(T(1));
  const Vec<T> a = bit_cast<Vec<T>>(bits | sign);
  const Vec<T> e = exp_not_above_one<T>(at_most(a, splat(-Exp<T>::tiny)));
  return (bits < 0 ? e : one) / (one + e);
}

template <class T>
PYRNN_INLINE Vec<T> tanh(Vec<T> x) {
  const IntVec<T> bits = bit_cast<IntVec<T>>(x);
  const IntVec<T> sign = bit_cast<IntVec<T>>(splat(T(-0.0)));
  const Vec<T> one = splat(T(1)), two = splat(T(2)), tiny = splat(Exp<T>::tiny);
  const Vec<T> a = bit_cast<Vec<T>>(bits & ~sign);
  const Vec<T> near = at_most(at_least(a, tiny), splat(Exp<T>::one));
  const Reduced<T> e = reduce<T>(near * splat(T(-2)), T(0));
  const Vec<T> m = (one - e.scale) - e.scale * e.expm1;
  const Vec<T> y = a < tiny ? a : m / (two - m);
  return bit_cast<Vec<T>>(bit_cast<IntVec<T>>(y) | (bits & sign));
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
