// exp, tanh and sigmoid on Vec<T>, over the whole range of T, denormals, infinities and NaN included:
//
//   x = n ln2 + r, |r| <= ln2/2      exp(x)     = 2^n + 2^n expm1(r)
//   expm1(r) = r + r^2 q(r)          sigmoid(x) = (x < 0 ? e : 1) / (1 + e), e = exp(-|x|)
//                                    tanh(x)    = m / (2 - m) with the sign of x, m = -expm1(-2|x|)
//
// tests/test_vecmath.py measures the error. q is, of its degree, the polynomial whose expm1 has the smallest
// relative error on |r| <= ln2/2 (Remez): in both dtypes less than a quarter of the last place.
#pragma once

#include "vec.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

template <class T>
struct Exp;

template <>
struct Exp<float> {
  static constexpr float q[] = {1.3882522809e-3f, 8.3665139368e-3f, 4.1667199645e-2f,
                                1.6666543670e-1f, 4.9999998155e-1f};
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
  static constexpr double q[] = {2.5053772453891056705e-8, 2.7626023938983097030e-7,
                                 2.7557407512033688854e-6, 2.4801505307122170782e-5,
                                 1.9841269719077817127e-4, 1.3888888931538846698e-3,
                                 8.3333333333895067527e-3, 4.1666666666576827822e-2,
                                 1.6666666666666589360e-1, 5.0000000000000051741e-1};
  static constexpr double log2e = 1.4426950408889634;
  static constexpr double ln2_high = 0.6931467056274414, ln2_low = 4.7493250390316723e-7;
  static constexpr double round = 6755399441055744.0 + 1023.0;  // 1.5 * 2^52 + bias
  static constexpr int mantissa = 52;
  static constexpr double lowest = -746.0, highest = 710.0, one = 20.0;
  static constexpr double shift = 128.0, unshift = 0x1p-128;
  static constexpr double tiny = 0x1p-80;
};

// c[0] x^(n-1) + ... + c[n-1], of n coefficients: neighbours are paired until three are left, since each term
// of a single chain waits for the one before.
template <class V, int n>
PYRNN_INLINE V polynomial(const V (&c)[n], V x) {
  if constexpr (n <= 3) {
    V y = c[0];
#pragma GCC unroll 2
    for (int i = 1; i < n; ++i) y = y * x + c[i];
    return y;
  } else {
    V pairs[(n + 1) / 2];
    pairs[0] = c[0];
#pragma GCC unroll 8
    for (int i = n % 2; i < n; i += 2) pairs[(i + 1) / 2] = c[i] * x + c[i + 1];
    return polynomial(pairs, x * x);
  }
}

// factor x = n ln2 + r; gives expm1(r) and 2^(n + shift), for factor x within lowest..highest, or NaN. The factor,
// 1 or -2, is in the constants: what is computed is s = r / factor.
template <class T>
struct Reduced {
  Vec<T> expm1, scale;
};

template <int factor, class T>
PYRNN_INLINE Reduced<T> reduce(Vec<T> x, T shift) {
  static_assert(factor == 1 || factor == -2);
  using E = Exp<T>;
  const Vec<T> round = splat(E::round);
  const Vec<T> rounded_n = x * splat(factor * E::log2e) + round;
  const Vec<T> n = rounded_n - round;
  Vec<T> s = x - n * splat(E::ln2_high / factor);
  s = s - n * splat(E::ln2_low / factor);
  constexpr int count = sizeof(E::q) / sizeof(T);
  Vec<T> q[count];
  T power = factor * factor;  // r^2 q(r) = s^2 (factor^2 q_0 + factor^3 q_1 s + ...)
#pragma GCC unroll 16
  for (int i = count - 1; i >= 0; --i, power *= factor) q[i] = splat(power * E::q[i]);
  const Vec<T> square = s * s, bend = polynomial(q, s);
  const Vec<T> exponent = shift == 0 ? rounded_n : rounded_n + splat(shift);
  return {factor == 1 ? bend * square + s : bend * square - (s + s),
          bit_cast<Vec<T>>(bit_cast<IntVec<T>>(exponent) << E::mantissa)};
}

// 2^shift exp(x).
template <class T>
PYRNN_INLINE Vec<T> shifted_exp(Vec<T> x, T shift) {
  const Reduced<T> e = reduce<1, T>(x, shift);
  return e.expm1 * e.scale + e.scale;
}

// Of x <= 0: shifted, no result is denormal.
template <class T>
PYRNN_INLINE Vec<T> shifted_exp_not_above_one(Vec<T> x) {
  return shifted_exp<T>(at_least(x, splat(Exp<T>::lowest)), Exp<T>::shift);
}

// 2^n alone overflows before exp does.
template <class T>
PYRNN_INLINE Vec<T> exp(Vec<T> x) {
  const Vec<T> zero = {};
  const Vec<T> below = shifted_exp_not_above_one<T>(x < zero ? x : zero);  // of NaN that of 0
  const Vec<T> above = shifted_exp<T>(at_most(x, splat(Exp<T>::highest)), T(-1));
  return x < zero ? below * splat(Exp<T>::unshift) : above * splat(T(2));
}

// With both sides of the division shifted: it alone reaches the denormals, with one rounding.
template <class T>
PYRNN_INLINE Vec<T> sigmoid(Vec<T> x) {
  const IntVec<T> bits = bit_cast<IntVec<T>>(x);
  const IntVec<T> sign = bit_cast<IntVec<T>>(splat(T(-0.0)));
  const Vec<T> one = splat(1 / Exp<T>::unshift);
  const Vec<T> a = bit_cast<Vec<T>>(bits | sign);
  const Vec<T> e = shifted_exp_not_above_one<T>(at_most(a, splat(-Exp<T>::tiny)));
  return (bits < 0 ? e : one) / (one + e);
}

template <class T>
PYRNN_INLINE Vec<T> tanh(Vec<T> x) {
  const IntVec<T> bits = bit_cast<IntVec<T>>(x);
  const IntVec<T> sign = bit_cast<IntVec<T>>(splat(T(-0.0)));
  const Vec<T> one = splat(T(1)), two = splat(T(2));
  const Vec<T> a = bit_cast<Vec<T>>(bits & ~sign);
  const Vec<T> near = at_most(at_least(a, splat(Exp<T>::tiny)), splat(Exp<T>::one));
  const Reduced<T> e = reduce<-2, T>(near, T(0));
  const Vec<T> m = (one - e.scale) - e.scale * e.expm1;
  // tanh(x) <= x: of what is tiny, x itself.
  const Vec<T> y = at_most(m / (two - m), a);
  return bit_cast<Vec<T>>(bit_cast<IntVec<T>>(y) | (bits & sign));
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
