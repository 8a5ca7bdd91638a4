// A fingerprint of the bits of arrays: one pass over them at the rate of memory, which tells whether they are
// those of another time.
//
// Blocks of 2 KiB, the last filled up with zeros, go through NH, which takes pairs of 32-bit words m and keys k:
//
//   NH(m) = sum_i ((m[2i] + k[2i]) mod 2^32) * ((m[2i+1] + k[2i+1]) mod 2^32)   mod 2^64
//
// and through NH once more with the keys shifted by a pair. The four halves of both sums are coefficients of
// a polynomial modulo the prime p = 2^61 - 1, and so is the byte count ahead of the blocks of each array; its
// values at two points are the fingerprint.
//
// Bound: two lists of as many arrays that differ have one fingerprint with probability at most
//
//   2^-64 + (N / p)^2,   N <= bytes / 512 + 5 arrays,   that is 2^-63 up to 256 GiB,
//
// over the draw of keys and points. Of unlike byte counts the polynomials differ. Else they do unless every
// block that differs has the same sums, and one such block has with 2^-64 at most (Black, Halevi, Krawczyk,
// Krovetz, Rogaway, "UMAC: Fast and Secure Message Authentication", CRYPTO 1999: 2^-32 for NH, and its square
// with keys so shifted); unlike polynomials of degree N meet in N points at most. Keys and points are drawn
// once and for all, from a seed that knows no weights: this finds changes, and is no defence against someone
// who looks for two arrays that collide.
#pragma once

#include "range.hpp"

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace pyrnn::PYRNN_ISA {
namespace {

constexpr Index words_of_a_block = 512;
constexpr std::uint64_t prime = (std::uint64_t(1) << 61) - 1;

struct FingerprintKeys {
  std::uint32_t word[words_of_a_block + 2] = {};
  std::uint64_t point[2] = {};  // in [1, p)

  // Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
  constexpr FingerprintKeys() {
    std::uint64_t state = 0x7079726e6e;  // "pyrnn"
    const auto draw = [&state] {
      std::uint64_t z = state += 0x9e3779b97f4a7c15;
      z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
      z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
      return z ^ (z >> 31);
    };
    for (std::uint32_t& key : word) key = static_cast<std::uint32_t>(draw() >> 32);
    for (std::uint64_t& r : point) r = draw() % (prime - 1) + 1;
  }
};
constexpr FingerprintKeys fingerprint_keys;

// The widest vectors whose halves of lanes have a product.
#if defined(__AVX512F__)
constexpr int word_bytes = 64;
#elif defined(__AVX2__)
constexpr int word_bytes = 32;
#else
constexpr int word_bytes = 16;
#endif
typedef std::uint32_t KeyedWords __attribute__((vector_size(word_bytes)));
typedef std::uint64_t PairSums __attribute__((vector_size(word_bytes)));

PYRNN_INLINE KeyedWords load_words(const void* from) {
  KeyedWords words;
  std::memcpy(&words, from, sizeof(words));
  return words;
}

// In each lane the low word times the high word. As a product of lanes it would be one of 64 bits, in three
// to eight instructions.
PYRNN_INLINE PairSums products(KeyedWords words) {
  const PairSums pairs = bit_cast<PairSums>(words);
#if defined(__AVX512F__)
  // g++ warns of what _mm512_mul_epu32 starts from.
  return bit_cast<PairSums>(
      _mm512_maskz_mul_epu32(0xff, bit_cast<__m512i>(pairs), bit_cast<__m512i>(pairs >> 32)));
#elif defined(__AVX2__)
  return bit_cast<PairSums>(
      _mm256_mul_epu32(bit_cast<__m256i>(pairs), bit_cast<__m256i>(pairs >> 32)));
#elif defined(__SSE2__)
  return bit_cast<PairSums>(
      _mm_mul_epu32(bit_cast<__m128i>(pairs), bit_cast<__m128i>(pairs >> 32)));
#elif defined(__aarch64__)
  const uint64x2_t both = bit_cast<uint64x2_t>(pairs);
  return bit_cast<PairSums>(vmull_u32(vmovn_u64(both), vshrn_n_u64(both, 32)));
#else
  return (pairs & 0xffffffff) * (pairs >> 32);
#endif
}

PYRNN_INLINE std::uint64_t sum_of(PairSums sums) {
  std::uint64_t total = 0;
  for (int i = 0; i < word_bytes / 8; ++i) total += sums[i];
  return total;
}

// value * point + coefficient modulo p, of a coefficient below p.
PYRNN_INLINE std::uint64_t horner(std::uint64_t value, std::uint64_t point,
                                  std::uint64_t coefficient) {
  __extension__ typedef unsigned __int128 Wide;
  const Wide product = Wide(value) * point + coefficient;
  const std::uint64_t sum =
      (static_cast<std::uint64_t>(product) & prime) + static_cast<std::uint64_t>(product >> 61);
  return sum >= prime ? sum - prime : sum;
}

PYRNN_INLINE void append(Fingerprint& of, std::uint64_t coefficient) {
  for (int i = 0; i < 2; ++i) {
    of.value[i] = horner(of.value[i], fingerprint_keys.point[i], coefficient);
  }
}

PYRNN_INLINE void append_block(Fingerprint& of, const char* block) {
  const std::uint32_t* const keys = fingerprint_keys.word;
  constexpr Index step = word_bytes / 4;
  PairSums first = {}, second = {};
#pragma GCC unroll 4
  for (Index i = 0; i < words_of_a_block; i += step) {
    const KeyedWords words = load_words(block + i * 4);
    first += products(words + load_words(keys + i));
    second += products(words + load_words(keys + i + 2));
  }
  for (const std::uint64_t sum : {sum_of(first), sum_of(second)}) {
    append(of, sum & 0xffffffff);
    append(of, sum >> 32);
  }
}

// Goes on with one more array; one that is not there has no bytes.
void fingerprint(const void* data, Index bytes, Fingerprint& of) {
  constexpr Index block = words_of_a_block * 4;
  const char* const from = static_cast<const char*>(data);
  Fingerprint here = of;
  append(here, static_cast<std::uint64_t>(bytes));
  const Index whole = bytes / block * block;
  for (Index at = 0; at < whole; at += block) append_block(here, from + at);
  if (whole < bytes) {
    char last[block] = {};
    std::memcpy(last, from + whole, static_cast<std::size_t>(bytes - whole));
    append_block(here, last);
  }
  of = here;
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
