// Memory of large arrays, kept when they end for those that follow: a training step makes the same ones as
// the step before, and the first touch of their pages costs more than the arithmetic on them. The C library
// keeps memory too, but gives back all that exceeds twice the largest block.
#pragma once

#include <cstddef>

namespace pyrnn::recycled {

// Smaller blocks are not worth it.
constexpr std::size_t least = std::size_t(256) << 10;
// The most that is kept. It and what is in use are together never more than nine eighths of what was in use
// at once: with less to spare, a block of one size would have to go for one of another in every step.
constexpr std::size_t most_kept = std::size_t(256) << 20;

// At least `bytes`, uninitialised, aligned to a cache line.
void* take(std::size_t bytes);
// What take() returned.
void give_back(void* memory) noexcept;

// Bytes in use and kept.
struct Held {
  std::size_t used, kept;
};
Held held();

}  // namespace pyrnn::recycled
