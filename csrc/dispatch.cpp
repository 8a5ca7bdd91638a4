#include "dispatch.hpp"

#include <cstdlib>
#include <stdexcept>

// Generated from the list in CMakeLists.txt, best first: PYRNN_ENTRY(name, whose table, condition on the
// processor).
#define PYRNN_ENTRY(name, base, condition) \
  namespace pyrnn::base {                  \
  extern const KernelTable table;          \
  }                                        \
  namespace pyrnn::name {                  \
  extern const Precision precisions[];     \
  }
#include "isa_list.inc"
#undef PYRNN_ENTRY

namespace pyrnn {
namespace {

struct Build {
  Isa isa;
  bool runs;
};

const std::vector<Build>& builds() {
  static const std::vector<Build> all = [] {
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    return std::vector<Build>{
#define PYRNN_ENTRY(name, base, condition) \
  {{#name, &base::table, name::precisions}, static_cast<bool>(condition)},
#include "isa_list.inc"
#undef PYRNN_ENTRY
    };
  }();
  return all;
}

std::string all_names() {
  std::string names;
  for (const Build& build : builds()) {
    names += (names.empty() ? "" : ", ") + std::string(build.isa.name);
  }
  return names;
}

Isa choose() {
  const char* forced = std::getenv("PYRNN_ISA");
  if (forced == nullptr || *forced == '\0') {
    for (const Build& build : builds()) {
      if (build.runs) return build.isa;
    }
    throw std::runtime_error("this processor runs none of " + all_names());
  }
  try {
    return isa_of(forced);
  } catch (const std::runtime_error& error) {
    throw std::runtime_error("PYRNN_ISA: " + std::string(error.what()));
  }
}

}  // namespace

std::vector<Isa> available_isas() {
  std::vector<Isa> isas;
  for (const Build& build : builds()) {
    if (build.runs) isas.push_back(build.isa);
  }
  return isas;
}

Isa isa_of(const std::string& name) {
  for (const Build& build : builds()) {
    if (name != build.isa.name) continue;
    if (!build.runs) throw std::runtime_error("this processor lacks " + name);
    return build.isa;
  }
  throw std::runtime_error("expected one of " + all_names() + ", got '" + name + "'");
}

const Isa& isa() {
  static const Isa chosen = choose();
  return chosen;
}

}  // namespace pyrnn
