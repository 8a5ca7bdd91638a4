// Which build of the kernels runs: the best that the processor has, or the one that PYRNN_ISA names.
#pragma once

#include <string>
#include <vector>

#include "kernels.hpp"

namespace pyrnn {

struct Isa {
  const char* name;
  const KernelTable* table;  // its own, or that of an instruction set that it extends
  std::vector<const Precision*> precisions;  // by name
};

// Those that this processor can run, best first; last those that run only by name, since they need a permission
// that the system gives to the whole process.
std::vector<Isa> available_isas();

// Throws std::runtime_error where there is none of that name, or the processor lacks it, or the system does not
// permit it. The permission is asked for here.
Isa isa_of(const std::string& name);

// Chooses once, at the first call. Throws std::runtime_error for a PYRNN_ISA that names no build or one
// that the processor lacks.
const Isa& isa();

inline const KernelTable& kernels() { return *isa().table; }

}  // namespace pyrnn
