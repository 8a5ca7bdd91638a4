// Tiles of the processor (AMX), whose state is large: Linux lets a process use it that has asked for it, all of its
// threads at once and for good. So it is asked only for whoever names these kernels (dispatch.cpp).
#pragma once

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#endif

namespace pyrnn::amx {

#if defined(__x86_64__) && defined(__linux__)

// Of <asm/prctl.h>, since Linux 5.16, and of the state of tiles in XCR0.
constexpr long get_supported = 0x1021, request = 0x1023, tile_data = 18;

// Whether the processor has tiles and products of bfloat16 and int8 on them, and the system keeps their state.
inline bool available() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0) return false;
  constexpr unsigned bfloat16 = 1u << 22, tile = 1u << 24, int8 = 1u << 25;
  constexpr unsigned needed = bfloat16 | tile | int8;
  if ((d & needed) != needed) return false;
  std::uint64_t supported = 0;
  if (syscall(SYS_arch_prctl, get_supported, &supported) != 0) return false;
  return (supported >> tile_data & 1) != 0;
}

// Asks for it. Again is no error.
inline bool permit() { return syscall(SYS_arch_prctl, request, tile_data) == 0; }

#else

inline bool available() { return false; }
inline bool permit() { return false; }

#endif

}  // namespace pyrnn::amx
