// How a worker goes over its panels of W_hh, which every step reads.
#pragma once

#include "../cache.hpp"
#include "pack.hpp"
#include "scan.hpp"

namespace pyrnn::PYRNN_ISA {
namespace {

// Panels of `groups` alternating blocks, in whole units, that a tile of one row takes.
constexpr Index units_of_a_tile(int groups) {
  return panels_at_once < groups ? 1 : panels_at_once / groups;
}

// Every other step goes backwards, beginning with the panels that the step before met last: of more than a
// cache holds, they are what it still has.
//
// By units a row comes from all workers, part by part. With the early panels a worker multiplies each part as
// it comes, while the next is on its way between cores; by then all of the row is there for the late ones,
// which are passed over once.
class Walk {
 public:
  Walk() = default;
  // `tile`: panels that a tile takes, a power of two; `bytes`: of one of them. Without `parts` all are early. A
  // thread that walks alone over `alone` panels, of more than L1 holds, turns in finer blocks.
  Walk(Index tile, Index bytes, bool parts, Index alone = 0) : block_(tile), parts_(parts) {
    // What L1 holds beside the rest needs no turns. Of half of that the next step finds the latest there.
    const Index near = cache::first_level_bytes();
    const Index least = alone * bytes < near ? block_bytes : near / 2;
    while (block_ * bytes < least) block_ *= 2;
  }

  // Whether there is nothing to turn round in.
  PYRNN_INLINE bool is_block(Range panels) const { return panels.size() <= block_; }
  PYRNN_INLINE Range early(Range panels, bool back) const {
    if (!parts_) return panels;
    if (back) return {max(panels.first, panels.last - block_), panels.last};
    return {panels.first, min(panels.last, panels.first + block_)};
  }
  PYRNN_INLINE Range late(Range panels, bool back) const {
    const Range before = early(panels, back);
    return back ? Range{panels.first, before.first} : Range{before.last, panels.last};
  }
  // Calls f(some) for a few of these panels after the other.
  template <class F>
  PYRNN_INLINE void over(Range panels, bool back, F f) const {
    for_blocks(panels, block_, back, f);
  }
  // The panels after those of a block; none after the last, which the next step begins with.
  PYRNN_INLINE Range next(Range panels, Range block, bool back) const {
    if (back) return {max(panels.first, block.first - block_), block.first};
    return {block.last, min(panels.last, block.last + block_)};
  }

 private:
  // More than comes out of the caches in the time of a transfer between cores, of which the slowest take a
  // quarter of a microsecond.
  static constexpr Index block_bytes = 64 * 1024;
  Index block_ = 1;
  bool parts_ = false;
};

// C = base + A B in the panels, each a group of `b.groups`: the early ones over the lines `k`, of which those
// from 0 on are the first, the late over all. `then`: what comes after them. In a function of its own: it
// stands in every cell's time loop.
template <class T>
__attribute__((noinline)) void multiply_along(const Walk& walk, Range panels, bool back, Index n,
                                              const RowPointers<T>& rows, const Panels<T>& b,
                                              Range k, Base base, bool early_only = false,
                                              Range then = {0, 0}) {
  const auto multiply_block = [&](Range block, Range lines, Range next) {
    const Range own = grouped(block, b.groups), after = grouped(next, b.groups);
    if (base == Base::zero && lines.first == 0) {
      multiply<Base::zero, T>(n, rows, b, own.first, own.last, lines, nullptr, after);
    } else {
      multiply<Base::self, T>(n, rows, b, own.first, own.last, lines, nullptr, after);
    }
  };
  if (walk.is_block(panels)) return multiply_block(panels, k, then);
  const auto multiply_some = [&](Range some, Range lines) {
    walk.over(some, back,
              [&](Range block) { multiply_block(block, lines, walk.next(some, block, back)); });
  };
  multiply_some(walk.early(panels, back), k);
  if (!early_only) multiply_some(walk.late(panels, back), {0, b.depth});
}

}  // namespace
}  // namespace pyrnn::PYRNN_ISA
