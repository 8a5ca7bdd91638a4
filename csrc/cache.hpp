// What the kernels ask about the processor's caches. Only speed depends on it.
#pragma once

#include "shapes.hpp"

namespace pyrnn::cache {

// Of a core's first-level cache for data; what is usual where the system does not say.
Index first_level_bytes();

}  // namespace pyrnn::cache
