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

const KernelTable& choose() {
  const char* forced = std::getenv("PYRNN_ISA");
  const bool free = forced == nullptr || *forced == '\0';
  std::string names;
  for (const Build& build : builds()) {
    const bool named = !free && std::string(forced) == build.table->isa;
    if (build.runs && (free || named)) return *build.table;
    if (named) {
      throw std::runtime_error("PYRNN_ISA: this processor lacks " + std::string(forced));
    }
    names += (names.empty() ? "" : ", ") + std::string(build.table->isa);
  }
  throw std::runtime_error("PYRNN_ISA: expected one of " + names + ", got '" +
                           (free ? "" : forced) + "'");
}

}  // namespace

std::vector<std::string> available_isas() {
  std::vector<std::string> names;
  for (const Build& build : builds()) {
    if (build.runs) names.emplace_back(build.table->isa);
  }
  return names;
}

const KernelTable& kernels() {
  static const KernelTable& chosen = choose();
  return chosen;
}

}  // namespace pyrnn
