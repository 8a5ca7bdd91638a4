// The threads of another library's OpenMP, for the calls of a program that uses both by turns. Such threads
// wait for their next work without letting go of their processors: work that they do not do themselves
// shares those with them.
#pragma once

namespace pyrnn {

class Crew;

class Lender {
 public:
  // The OpenMP that the loaded library `path` is linked with, if it is and has one.
  explicit Lender(const char* path);
  [[nodiscard]] bool found() const { return parallel_ != nullptr; }

  // Of the calling thread, for its runs from now on; nullptr for none.
  static void use(const Lender* lender);
  static const Lender* in_use();

  // Whether a region of it, entered here, would have so many threads, and not many more for little work
  // (multiply-adds).
  [[nodiscard]] bool lends(int threads, double work) const;
  // Runs conduct(context) on the calling thread and crew.serve() on all others of a region, which has as
  // many threads as the library's own, so that none has to end or start; returns after all of them.
  void lend(Crew& crew, void (*conduct)(void* context), void* context) const;

 private:
  using Parallel = void (*)(void (*body)(void*), void* data, unsigned threads, unsigned flags);
  using Query = int (*)();

  Parallel parallel_ = nullptr;
  Query max_threads_ = nullptr;
  Query in_parallel_ = nullptr;
};

}  // namespace pyrnn
