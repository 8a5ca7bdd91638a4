#include "cache.hpp"

#include <unistd.h>

namespace pyrnn::cache {

Index first_level_bytes() {
  static const Index bytes = [] {
    long told = 0;
#if defined(_SC_LEVEL1_DCACHE_SIZE)
    told = sysconf(_SC_LEVEL1_DCACHE_SIZE);
#endif
    constexpr Index usual = 32 * 1024;
    return told > 0 ? Index(told) : usual;
  }();
  return bytes;
}

}  // namespace pyrnn::cache
