#include "dispatch.hpp"

#include <cstdlib>
#include <stdexcept>

// Generated from the list in CMakeLists.txt, best first: PYRNN_ENTRY(name, condition on the processor).
#define PYRNN_ENTRY(name, condition) \
  namespace pyrnn::name {            \
  extern const KernelTable table;    \
  }
#include "isa_list.inc"
#undef PYRNN_ENTRY

namespace pyrnn {
namespace {

struct Build {
  const KernelTable* table;
  bool runs;
};

const std::vector<Build>& builds() {
  static const std::vector<Build> all = [] {
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    return std::vector<Build>{
#define PYRNN_ENTRY(name, condition) {&name::table, static_cast<bool>(condition)},
#include "isa_list.inc"
#undef PYRNN_ENTRY
    };
  }();
  return all;
}

std::string all_names() {
  std::string names;
  for (const Build& build : builds()) {
    names += (names.empty() ? "" : ", ") + std::string(build.table->isa);
  }
  return names;
}

const KernelTable& choose() {
  const char* forced = std::getenv("PYRNN_ISA");
  if (forced == nullptr || *forced == '\0') {
    for (const Build& build : builds()) {
      if (build.runs) return *build.table;
    }
    throw std::runtime_error("this processor runs none of " + all_names());
  }
  try {
    return kernels_of(forced);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error("PYRNN_ISA: " + std::string(error.what()));
  }
}

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Build& build : builds()) {
    if (build.runs) names.emplace_back(build.table->isa);
  }
  return names;
}

const KernelTable& kernels_of(const std::string& isa) {
  for (const Build& build : builds()) {
    if (isa != build.table->isa) continue;
    if (!build.runs) throw std::runtime_error("this processor lacks " + isa);
    return *build.table;
  }
  throw std::runtime_error("expected one of " + all_names() + ", got '" + isa + "'");
}

const KernelTable& kernels() {
  static const KernelTable& chosen = choose();
  return chosen;
}

}  // namespace pyrnn
