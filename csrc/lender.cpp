#include "lender.hpp"

#include <thread>

#include "pool.hpp"

#if defined(__unix__) || defined(__APPLE__)
#include <dlfcn.h>
#endif

namespace pyrnn {
namespace {

thread_local const Lender* used = nullptr;

struct Region {
  std::thread::id caller;
  Crew& crew;
  void (*conduct)(void* context);
  void* context;
};

// An exception would leave the others in the region.
void body(void* data) noexcept {
  const Region& region = *static_cast<Region*>(data);
  if (std::this_thread::get_id() == region.caller) {
    region.conduct(region.context);
  } else {
    region.crew.serve();
  }
}

}  // namespace

Lender::Lender([[maybe_unused]] const char* path) {
#if defined(__unix__) || defined(__APPLE__)
  void* const library = dlopen(path, RTLD_NOLOAD | RTLD_NOW);
  if (library == nullptr) return;
  // What compilers call for a parallel region: GNU's own name, which LLVM's and Intel's OpenMP have too.
  const auto parallel = reinterpret_cast<Parallel>(dlsym(library, "GOMP_parallel"));
  max_threads_ = reinterpret_cast<Query>(dlsym(library, "omp_get_max_threads"));
  in_parallel_ = reinterpret_cast<Query>(dlsym(library, "omp_in_parallel"));
  if (max_threads_ != nullptr && in_parallel_ != nullptr) parallel_ = parallel;
#endif
}

void Lender::use(const Lender* lender) { used = lender; }

const Lender* Lender::in_use() { return used; }

bool Lender::lends(int threads, double work) const {
  // About a millisecond of one core: little beside it is what waking many threads costs.
  constexpr double work_for_all = 5e7;
  if (!found() || in_parallel_() != 0) return false;
  const int all = max_threads_();
  return all == threads || (all > threads && work >= work_for_all);
}

void Lender::lend(Crew& crew, void (*conduct)(void*), void* context) const {
  Region region{std::this_thread::get_id(), crew, conduct, context};
  parallel_(&body, &region, static_cast<unsigned>(max_threads_()), 0);
}

}  // namespace pyrnn
