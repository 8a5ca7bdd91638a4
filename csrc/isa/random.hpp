// Threefry-2x32 of 13 rounds: random words out of a key and a counter, no state (Salmon, Moraes, Dror &
// Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011; 13 rounds are the fewest that pass BigCrush).
// A mask is a function of (seed, layer, direction, step, row, unit): backward draws it again.
#pragma once

#include "vec.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// Unsigned lanes as wide as T, each with a word of 32 bits.
template <class T>
struct WordOf;
template <>
struct WordOf<float> {
  using type = std::uint32_t;
};
template <>
struct WordOf<double> {
  using type = std::uint64_t;
};
template <class T>
using WordVec = Vec<typename WordOf<T>::type>;

PYRNN_INLINE std::uint32_t low_word(std::uint32_t x) { return x; }
template <class V>
PYRNN_INLINE V low_word(V x) {
  if constexpr (sizeof(x[0]) == 8) {
    return x & 0xFFFFFFFFu;
  } else {
    return x;
  }
}

template <class V>
struct Words {
  V first, second;
};

template <class V>
PYRNN_INLINE Words<V> threefry(const std::uint32_t (&key)[2], Words<V> x) {
  constexpr int rounds = 13;
  constexpr int rotation[] = {13, 15, 26, 6, 17, 29, 16, 24};
  const std::uint32_t keys[] = {key[0], key[1], 0x1BD11BDAu ^ key[0] ^ key[1]};
  x.first = low_word(x.first + keys[0]);
  x.second = low_word(x.second + keys[1]);
#pragma GCC unroll 16
  for (int r = 0; r < rounds; ++r) {
    x.first = low_word(x.first + x.second);
    const int left = rotation[r % 8];
    x.second = low_word((x.second << left) | (x.second >> (32 - left))) ^ x.first;
    if (r % 4 != 3) continue;
    const int next = r / 4 + 1;
    x.first = low_word(x.first + keys[next % 3]);
    x.second = low_word(x.second + (keys[(next + 1) % 3] + static_cast<std::uint32_t>(next)));
  }
  return x;
}

// The key of one row at one step, from that of the call.
struct RowKey {
  std::uint32_t words[2];
};

PYRNN_INLINE RowKey row_key(const std::uint32_t (&key)[2], Index step, Index row) {
  const auto drawn = threefry<std::uint32_t>(
      key, {static_cast<std::uint32_t>(step), static_cast<std::uint32_t>(row)});
  return {{drawn.first, drawn.second}};
}

template <class T, int... Lane>
PYRNN_INLINE WordVec<T> units_from(Index unit, std::integer_sequence<int, Lane...>) {
  using Word = typename WordOf<T>::type;
  return WordVec<T>{static_cast<Word>(Lane)...} + static_cast<Word>(unit);
}

// Two words for each unit that `at` stands on; `purpose` tells one use of a key from another.
template <class T, class At>
PYRNN_INLINE Words<WordVec<T>> draw(const RowKey& key, const At& at, std::uint32_t purpose) {
  const auto units = units_from<T>(at.unit, std::make_integer_sequence<int, lanes<T>>());
  return threefry<WordVec<T>>(key.words, {units, WordVec<T>{} + purpose});
}

// Whether a word is one of the `probability` of all words: it is below probability * 2^32.
template <class T>
PYRNN_INLINE IntVec<T> falls_within(WordVec<T> word, double probability) {
  // Of 2^32 words the last one counts too.
  const auto last = static_cast<std::int64_t>(probability * 0x1p32 + 0.5) - 1;
  using Word = typename WordOf<T>::type;
  if (last < 0) return IntVec<T>{};
  return bit_cast<IntVec<T>>(word <= WordVec<T>{} + static_cast<Word>(last));
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
