// Which build of the kernels runs: the best that the processor has, or the one that PYRNN_ISA names.
#pragma once

#include <string>
#include <vector>

#include "kernels.hpp"

namespace pyrnn {

// Names of the builds that this processor can run, best first.
std::vector<std::string> available_isas();

// The build of that name. Throws std::runtime_error where there is none, or the processor lacks it.
const KernelTable& kernels_of(const std::string& isa);

// Chooses once, at the first call. Throws std::runtime_error for a PYRNN_ISA that names no build or one
// that the processor lacks.
const KernelTable& kernels();

}  // namespace pyrnn
