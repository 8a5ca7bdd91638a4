#include "recycled.hpp"

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace pyrnn::recycled {
namespace {

constexpr std::size_t page = 4096;

// From the system itself: blocks of many sizes that come and go would leave the C library's heap full of holes.
// A sanitizer of addresses guards what that library gives.
#if defined(__linux__) && !defined(__SANITIZE_ADDRESS__)
void* pages(std::size_t bytes) {
  void* const memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  return memory == MAP_FAILED ? nullptr : memory;
}
void release(void* memory, std::size_t bytes) { (void)munmap(memory, bytes); }
#else
void* pages(std::size_t bytes) { return std::aligned_alloc(page, bytes); }
void release(void* memory, std::size_t) { std::free(memory); }
#endif

// In front of what take() returns, on a line of its own.
struct alignas(64) Block {
  std::size_t bytes;
};

// Guarded by a mutex for arrays that end in any thread. A child cannot find it locked: who takes or gives
// back holds the interpreter, and so does who forks.
struct Kept {
  std::mutex mutex;
  std::vector<Block*> blocks;  // oldest first
  std::size_t bytes = 0, used = 0, most_used = 0;

  // Frees the oldest until no more than `limit` bytes are kept.
  void shrink(std::size_t limit) {
    std::size_t count = 0;
    for (; bytes > limit && count < blocks.size(); ++count) {
      bytes -= blocks[count]->bytes;
      release(blocks[count], blocks[count]->bytes);
    }
    blocks.erase(blocks.begin(), blocks.begin() + static_cast<std::ptrdiff_t>(count));
  }
};

// NumPy asks for huge pages from this size on.
constexpr std::size_t least_huge = std::size_t(4) << 20;

Block* new_block(std::size_t bytes) {
  void* const memory = pages(bytes);
  if (memory == nullptr) return nullptr;
#ifdef MADV_HUGEPAGE
  // Advice alone: where it cannot be followed, pages stay small.
  if (bytes >= least_huge) (void)madvise(memory, bytes, MADV_HUGEPAGE);
#endif
  return new (memory) Block{bytes};
}

// Never destroyed: arrays may end after it would be.
Kept& kept() {
  static Kept* const the_kept = new Kept;
  return *the_kept;
}

}  // namespace

void* take(std::size_t bytes) {
  if (bytes > std::size_t(-1) - 2 * page) throw std::bad_alloc();
  const std::size_t need = (bytes + sizeof(Block) + page - 1) / page * page;
  Kept& all = kept();
  const std::lock_guard<std::mutex> guard(all.mutex);
  auto best = all.blocks.end();
  for (auto it = all.blocks.begin(); it != all.blocks.end(); ++it) {
    const bool fits = (*it)->bytes >= need && (*it)->bytes - need <= need / 4;
    if (fits && (best == all.blocks.end() || (*it)->bytes < (*best)->bytes)) best = it;
  }
  Block* block = nullptr;
  if (best != all.blocks.end()) {
    block = *best;
    all.blocks.erase(best);
    all.bytes -= block->bytes;
  } else {
    const std::size_t used = all.used + need;
    const std::size_t most = std::max(all.most_used, used);
    all.shrink(most + most / 8 - used);
    block = new_block(need);
    if (block == nullptr) {
      all.shrink(0);
      block = new_block(need);
    }
    if (block == nullptr) throw std::bad_alloc();
  }
  all.used += block->bytes;
  all.most_used = std::max(all.most_used, all.used);
  return block + 1;
}

void give_back(void* memory) noexcept {
  Block* const block = static_cast<Block*>(memory) - 1;
  Kept& all = kept();
  const std::lock_guard<std::mutex> guard(all.mutex);
  all.used -= block->bytes;
  try {
    all.blocks.push_back(block);
  } catch (const std::bad_alloc&) {
    release(block, block->bytes);
    return;
  }
  all.bytes += block->bytes;
  all.shrink(most_kept);
}

Held held() {
  Kept& all = kept();
  const std::lock_guard<std::mutex> guard(all.mutex);
  return {all.used, all.bytes};
}

}  // namespace pyrnn::recycled
