// What pyrnn._core offers to pyrnn._stream, in the capsule `_core.stream_api`: stepping a stream without
// Python in between. The two modules are built together; nobody else may rely on this.
#pragma once

#include <cstdint>

namespace pyrnn {

enum class StreamStatus : int {
  done,
  busy,         // another thread is using the stream; nothing happened
  bad_token,    // outside 0..I-1; nothing happened
  interrupted,  // a Python exception is set, the state is that before the step
  no_memory     // likewise, without an exception
};

struct StreamApi {
  // x [B, I] of the stream's dtype, or null and tokens [B]; y [B, H] is written last and may overlap x.
  StreamStatus (*step)(void* stream, const void* x, const std::int64_t* tokens, void* y);
  // Whether a step takes so long that other Python threads should run meanwhile.
  bool (*is_long)(const void* stream);
};

}  // namespace pyrnn
