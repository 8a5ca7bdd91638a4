// Index arithmetic and plain loops. The standard library's would be emitted as weak symbols, which the
// linker may take from the build of another ISA.
#pragma once

#include "vec.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

PYRNN_INLINE Index min(Index a, Index b) { return a < b ? a : b; }
PYRNN_INLINE Index max(Index a, Index b) { return a < b ? b : a; }
PYRNN_INLINE Index clamp(Index x, Index low, Index high) { return max(low, min(x, high)); }
PYRNN_INLINE Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }

// [first, last)
struct Range {
  Index first, last;
  PYRNN_INLINE Index size() const { return last - first; }
};

// Part `index` of `count` of [0, n), in whole grains.
PYRNN_INLINE Range part(Index n, int index, int count, Index grain = 1) {
  if (count == 1) return {0, n};  // a streaming step would notice the divisions
  const Index grains = ceil_div(n, grain);
  return {min(n, grains * index / count * grain), min(n, grains * (index + 1) / count * grain)};
}

// Calls f(some) for a range cut at the multiples of `block`, a power of two; the last part first with `back`.
template <class F>
PYRNN_INLINE void for_blocks(Range range, Index block, bool back, F f) {
  const Index first = range.first & -block, last = (range.last + block - 1) & -block;
  for (Index at = first; at < last; at += block) {
    const Index from = back ? first + last - block - at : at;
    f(Range{max(range.first, from), min(range.last, from + block)});
  }
}

// These two stand in functions of their own: their loops, as vectors, take room at each of many callers.
template <class T>
__attribute__((noinline)) void fill(T* row, Range range, T value) {
  for (Index i = range.first; i < range.last; ++i) row[i] = value;
}

// Asks for the cache lines of a range of values that will be read or written soon.
template <class T>
PYRNN_INLINE void expect(const T* row, Range range) {
  for (Index i = range.first; i < range.last; i += 64 / Index(sizeof(T))) {
    __builtin_prefetch(row + i, 1);
  }
}

template <class T>
__attribute__((noinline)) void copy(const T* from, T* to, Range range) {
  for (Index i = range.first; i < range.last; ++i) to[i] = from[i];
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
