#include "dispatch.hpp"

#include <cstdlib>
#include <map>
#include <stdexcept>

#include "amx.hpp"

// Generated from the list in CMakeLists.txt, best first: PYRNN_ENTRY(name, whose table, whose precisions beside its own,
// condition on the processor, what asks the system for permission or nullptr).
#define PYRNN_ENTRY(name, base, others, condition, permit) \
  namespace pyrnn::base {                                  \
  extern const KernelTable table;                          \
  }                                                        \
  namespace pyrnn::name {                                  \
  extern const Precision precisions[];                     \
  }
#include "isa_list.inc"
#undef PYRNN_ENTRY

namespace pyrnn {
namespace {

struct Build {
  Isa isa;
  bool runs;
  bool (*permit)();  // asks for what concerns the whole process: only for whoever names this build
};

// Both end with one without a name.
std::vector<const Precision*> merged(const Precision* own, const Precision* others) {
  std::map<std::string, const Precision*> by_name;
  for (const Precision* list : {own, others}) {
    for (; list->name != nullptr; ++list) by_name.emplace(list->name, list);
  }
  std::vector<const Precision*> all;
  for (const auto& entry : by_name) all.push_back(entry.second);
  return all;
}

const std::vector<Build>& builds() {
  static const std::vector<Build> all = [] {
#if defined(__x86_64__)
    __builtin_cpu_init();
#endif
    return std::vector<Build>{
#define PYRNN_ENTRY(name, base, others, condition, permit)              \
  {{#name, &base::table, merged(name::precisions, others::precisions)}, \
   static_cast<bool>(condition),                                        \
   permit},
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
      if (build.runs && build.permit == nullptr) return build.isa;
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
  for (const bool by_name : {false, true}) {
    for (const Build& build : builds()) {
      if (build.runs && (build.permit != nullptr) == by_name) isas.push_back(build.isa);
    }
  }
  return isas;
}

Isa isa_of(const std::string& name) {
  for (const Build& build : builds()) {
    if (name != build.isa.name) continue;
    if (!build.runs) throw std::runtime_error("this processor lacks " + name);
    if (build.permit != nullptr && !build.permit()) {
      throw std::runtime_error("the system does not permit " + name + " to this process");
    }
    return build.isa;
  }
  throw std::runtime_error("expected one of " + all_names() + ", got '" + name + "'");
}

const Isa& isa() {
  static const Isa chosen = choose();
  return chosen;
}

}  // namespace pyrnn
