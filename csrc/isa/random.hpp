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

// n counters: each is a chain of 60 operations that wait for one another, so several run beside each other.
template <class V, int n>
PYRNN_INLINE void threefry(const std::uint32_t (&key)[2], Words<V> (&words)[n]) {
  constexpr int rounds = 13;
  constexpr int rotation[] = {13, 15, 26, 6, 17, 29, 16, 24};
  const std::uint32_t keys[] = {key[0], key[1], 0x1BD11BDAu ^ key[0] ^ key[1]};
  const auto add = [&](std::uint32_t first, std::uint32_t second) {
#pragma GCC unroll 4
    for (int i = 0; i < n; ++i) {
      words[i].first = low_word(words[i].first + first);
      words[i].second = low_word(words[i].second + second);
    }
  };
  add(keys[0], keys[1]);
#pragma GCC unroll 16
  for (int r = 0; r < rounds; ++r) {
    const int left = rotation[r % 8];
#pragma GCC unroll 4
    for (int i = 0; i < n; ++i) {
      V& first = words[i].first;
      V& second = words[i].second;
      first = low_word(first + second);
      second = low_word((second << left) | (second >> (32 - left))) ^ first;
    }
    if (r % 4 != 3) continue;
    const int next = r / 4 + 1;
    add(keys[next % 3], keys[(next + 1) % 3] + static_cast<std::uint32_t>(next));
  }
}

// Of a layer in one direction for the whole call; from that, of one use at a step.
struct CallKey {
  std::uint32_t words[2];
};
struct StepKey {
  std::uint32_t words[2];
};
// What masks are for.
enum class Use : std::uint32_t { zoneout, recurrent, between };

// Not inline: every scan asks for keys, a few times a step at most.
template <class Key>
__attribute__((noinline)) Key drawn_key(const std::uint32_t (&from)[2], std::uint32_t first,
                                        std::uint32_t second) {
  Words<std::uint32_t> drawn[] = {{first, second}};
  threefry(from, drawn);
  return {{drawn[0].first, drawn[0].second}};
}

inline CallKey call_key(const MaskKey& key) {
  const std::uint32_t seed[] = {static_cast<std::uint32_t>(key.seed),
                                static_cast<std::uint32_t>(key.seed >> 32)};
  return drawn_key<CallKey>(seed, key.layer, key.direction);
}
inline StepKey step_key(const CallKey& key, Index step, Use use) {
  return drawn_key<StepKey>(key.words, static_cast<std::uint32_t>(step),
                            static_cast<std::uint32_t>(use));
}

template <class T, int... Lane>
PYRNN_INLINE WordVec<T> counters_from(Index first, std::integer_sequence<int, Lane...>) {
  using Word = typename WordOf<T>::type;
  return WordVec<T>{static_cast<Word>(Lane)...} + static_cast<Word>(first);
}

// Two words for each of a row's counters in n vectors from `first` on.
template <class T, int n>
PYRNN_INLINE void draw(const StepKey& key, Index row, Index first, Words<WordVec<T>> (&words)[n]) {
#pragma GCC unroll 4
  for (int v = 0; v < n; ++v) {
    words[v].first =
        counters_from<T>(first + v * lanes<T>, std::make_integer_sequence<int, lanes<T>>());
    words[v].second = WordVec<T>{} + static_cast<std::uint32_t>(row);
  }
  threefry(key.words, words);
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
