// Temporary memory that a thread keeps between calls: the first touch of a fresh page costs more than the
// arithmetic on it. It has the size of the largest call, and goes back when that was long ago.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace pyrnn {

class Scratch {
 public:
  // Processors fetch lines in pairs.
  static constexpr std::size_t pair = 128;

  Scratch() = default;
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { std::free(data_); }

  // At least `bytes`, aligned to `pair`, valid until the next call.
  void* at_least(std::size_t bytes) {
    if (bytes > size_ || outgrown(bytes)) {
      std::free(data_);
      data_ = nullptr;
      size_ = 0;
      small_calls_ = 0;
      // Panels of large weights are read from end to end at every step: with 4 KiB pages, from more of them
      // than the processor has translations for. At worst a third is rounding.
      const std::size_t align = bytes < 2 * huge_page ? pair : huge_page;
      const std::size_t rounded = (bytes + align - 1) / align * align;
      if (rounded < bytes) throw std::bad_alloc();
      data_ = std::aligned_alloc(align, rounded);
      if (data_ == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
      // Advice alone: where it cannot be followed, pages stay small.
      if (align == huge_page) (void)madvise(data_, rounded, MADV_HUGEPAGE);
#endif
      size_ = rounded;
    }
    return data_;
  }

 private:
  static constexpr std::size_t huge_page = std::size_t(2) << 20;
  // Less than this is not worth an allocation that may have to be made again.
  static constexpr std::size_t least_to_return = std::size_t(32) << 20;
  // Calls that large take milliseconds: one allocation in a thousand calls does not show.
  static constexpr int patience = 1000;

  // Whether the last many calls needed less than a quarter.
  bool outgrown(std::size_t bytes) {
    const bool small = size_ >= least_to_return && bytes < size_ / 4;
    small_calls_ = small ? small_calls_ + 1 : 0;
    return small_calls_ > patience;
  }

  void* data_ = nullptr;
  std::size_t size_ = 0;
  int small_calls_ = 0;
};

}  // namespace pyrnn
