// What the tests share: tolerances, the report, arrays that notice what is read or written beside
// them, random values.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <limits>
#include <new>
#include <random>

#include "naive.hpp"

namespace pyrnn::selftest {
namespace {

// As in tests/tolerances.py: ||got - want|| / ||want||, and units in the last place.
template <class T>
constexpr double tolerance = sizeof(T) == 4 ? 3e-5 : 1e-11;
template <class T>
constexpr double tolerance_ulp = sizeof(T) == 4 ? 3.0 : 4.0;
template <class T>
constexpr const char* dtype = sizeof(T) == 4 ? "float32" : "float64";

bool failed = false;
bool quick = false;

// One line of the report: what was compared, and where it was worst.
class Group {
 public:
  Group(const char* isa, const char* of, const std::string& name, double limit)
      : isa_(isa), of_(of), name_(name), limit_(limit) {}
  ~Group() {
    const bool well = worst_ <= limit_ && wrong_.empty();  // NaN is not
    std::printf("%-9s %-8s %-17s %5d checks, worst %.2g of %.2g (%s)%s%s\n", isa_, of_,
                name_.c_str(), checks_, worst_, limit_, where_.c_str(), well ? "" : "  FAILED ",
                wrong_.c_str());
    failed = failed || !well;
  }
  Group(const Group&) = delete;
  Group& operator=(const Group&) = delete;

  void error(double value, const std::string& where) {
    ++checks_;
    if (value > worst_ || std::isnan(value)) {
      worst_ = value;
      where_ = where;
    }
  }
  void check(bool well, const std::string& what) {
    ++checks_;
    if (!well && wrong_.empty()) wrong_ = what;
  }

 private:
  const char *isa_, *of_;
  std::string name_, where_ = "all";
  double limit_, worst_ = 0;
  int checks_ = 0;
  std::string wrong_;
};

// An array between two others that nobody may write.
template <class T>
struct Guarded {
  static constexpr std::size_t guard = 64;
  static constexpr T mark = T(-12345);
  std::vector<T> values;

  Guarded() : Guarded(0) {}
  explicit Guarded(std::size_t n) : values(n + 2 * guard, mark) {
    std::fill(data(), data() + n, std::numeric_limits<T>::quiet_NaN());
  }
  T* data() { return values.data() + guard; }
  T* data_or_null() { return size() == 0 ? nullptr : data(); }
  [[nodiscard]] std::size_t size() const { return values.size() - 2 * guard; }
  [[nodiscard]] bool intact() const {
    const auto marks = std::count(values.begin(), values.begin() + guard, mark) +
                       std::count(values.end() - guard, values.end(), mark);
    return marks == 2 * static_cast<std::ptrdiff_t>(guard);
  }
};

template <class T>
double relative_error(Guarded<T>& got, const Values& want) {
  double difference = 0, size = 0;
  for (std::size_t i = 0; i < want.size(); ++i) {
    const double d = static_cast<double>(got.data()[i]) - want[i];
    difference += d * d;
    size += want[i] * want[i];
  }
  if (size == 0) return difference == 0 ? 0 : std::numeric_limits<double>::infinity();
  return std::sqrt(difference / size);
}

template <class T>
bool same_bits(Guarded<T>& a, Guarded<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

std::mt19937_64 random_bits(1);  // the same numbers in every run

double uniform() { return std::ldexp(static_cast<double>(random_bits() >> 11), -52) - 1; }

// n values in +-bound, each a T.
template <class T>
Values values(Index n, double bound) {
  Values made(static_cast<std::size_t>(n));
  for (double& value : made) value = static_cast<double>(static_cast<T>(bound * uniform()));
  return made;
}

// Values as T, up to the end of a page that no other follows: a read beyond stops the program.
template <class T>
class Fenced {
 public:
  explicit Fenced(const Values& from) : n_(from.size()) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t inside = (n_ * sizeof(T) + page - 1) / page * page;
    mapped_ = inside + page;
    start_ = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start_ == MAP_FAILED) throw std::bad_alloc();
    char* const end = static_cast<char*>(start_) + inside;
    data_ = reinterpret_cast<T*>(end - n_ * sizeof(T));
    std::transform(from.begin(), from.end(), data_, [](double v) { return static_cast<T>(v); });
    mprotect(end, page, PROT_NONE);
  }
  ~Fenced() { munmap(start_, mapped_); }
  Fenced(const Fenced&) = delete;
  Fenced& operator=(const Fenced&) = delete;

  [[nodiscard]] const T* data() const { return data_; }
  [[nodiscard]] const T* data_or_null() const { return n_ == 0 ? nullptr : data_; }
  [[nodiscard]] std::size_t size() const { return n_; }

 private:
  std::size_t n_, mapped_;
  void* start_;
  T* data_;
};

}  // namespace
}  // namespace pyrnn::selftest
