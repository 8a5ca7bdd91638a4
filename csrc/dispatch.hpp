// Which build of the kernels runs: the best that the processor has, or the one that PYRNN_ISA names.
#pragma once

#include <string>
#include <vector>

#include "kernels.hpp"

namespace pyrnn {

// Names of the builds that this processor can run, best first.
std::vector<std::string> available_isas();

// Chooses once, at the first call. Throws std::runtime_error for a PYRNN_ISA that names no build or one
// that the processor lacks.
const KernelTable& kernels();

}  // namespace pyrnn
