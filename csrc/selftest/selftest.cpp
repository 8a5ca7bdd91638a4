// The self-test of the kernels, without Python: every cell of every table against the naive equations,
// any number of threads bit for bit, Linear, and the error of exp, tanh and sigmoid.
//
//   pyrnn_selftest [--quick] [isa ...]      all instruction sets of this processor by default
//
// Ends with 0 if all is well, 1 if not, 2 for an instruction set that cannot run.
#include <algorithm>
#include <atomic>
#include <cfenv>
#include <chrono>
#include <exception>
#include <thread>

#include "../dispatch.hpp"
#include "../team.hpp"
#include "cells.hpp"

namespace pyrnn::selftest {
namespace {

// --- Linear --------------------------------------------------------------------------------------------

template <class T>
void test_linear(const KernelTable& table) {
  Group group(table.isa, dtype<T>, "linear", tolerance<T>);
  const Shape shapes[] = {{1, 0, 1, 1},   {2, 0, 3, 5},     {7, 0, 17, 16},   {31, 0, 8, 33},
                          {64, 0, 65, 3}, {300, 0, 31, 47}, {40, 0, 64, 130}, {0, 0, 3, 4}};
  for (const auto& [rows, unused, in, out] : shapes) {
    const Values x = values<T>(rows * in, 1), w = values<T>(out * in, 1);
    const Values bias = values<T>(out, 1), dy = values<T>(rows * out, 1);
    Values y(std::size_t(rows * out)), dx(std::size_t(rows * in)), dw(w.size()), db(bias.size());
    for (Index n = 0; n < rows; ++n) {
      for (Index o = 0; o < out; ++o) {
        add(y, n * out + o, at(bias, o));
        add(db, o, at(dy, n * out + o));
        for (Index i = 0; i < in; ++i) {
          add(y, n * out + o, at(x, n * in + i) * at(w, o * in + i));
          add(dx, n * in + i, at(dy, n * out + o) * at(w, o * in + i));
          add(dw, o * in + i, at(dy, n * out + o) * at(x, n * in + i));
        }
      }
    }
    const Fenced<T> x_(x), w_(w), bias_(bias), dy_(dy);
    const Values* const wants[] = {&y, &dx, &dw, &db};
    std::vector<Guarded<T>> first;
    for (const int threads : {1, 2, 3}) {
      set_num_threads(threads);
      std::vector<Guarded<T>> made;
      for (const Values* want : wants) made.emplace_back(want->size());
      Linear<T> call{};
      call.rows = rows;
      call.in_features = in;
      call.out_features = out;
      call.x = x_.data();
      call.weight = w_.data();
      call.bias = bias_.data();
      call.y = made[0].data();
      Team team(nullptr);
      table.of<T>().linear_forward(call, team);
      call.dy = dy_.data();
      call.dx = made[1].data();
      call.dweight = made[2].data();
      call.dbias = made[3].data();
      table.of<T>().linear_backward(call, team);
      if (threads == 1) first = made;
      for (std::size_t i = 0; i < made.size(); ++i) {
        const Shape shape{rows, 1, in, out};
        group.error(relative_error(made[i], *wants[i]), title(shape, "y, dx, dw or db"));
        group.check(same_bits(made[i], first[i]) && made[i].intact(), title(shape, "bits"));
      }
    }
  }
}

// --- exp, tanh, sigmoid --------------------------------------------------------------------------------

// What is wider than T: of double, where long double is.
template <class T>
using Wide = std::conditional_t<sizeof(T) == 4, double, long double>;

template <class T>
Wide<T> exact(int function, Wide<T> x) {
  if (function == 0) return std::exp(x);
  if (function == 1) return std::tanh(x);
  const Wide<T> e = std::exp(-std::fabs(x));
  return (x < 0 ? e : 1) / (1 + e);
}

// Units in the last place of the exact value; infinity counts as the number after the largest.
template <class T>
double ulps(T got, Wide<T> want) {
  constexpr T largest = std::numeric_limits<T>::max();
  const T below = std::nextafter(largest, T(0));
  const Wide<T> after = Wide<T>(largest) + (Wide<T>(largest) - Wide<T>(below));
  const T near = std::min(static_cast<T>(std::fabs(want)), below);
  const Wide<T> unit = Wide<T>(std::nextafter(near, largest)) - Wide<T>(near);
  const Wide<T> reached = std::clamp(Wide<T>(got), -after, after);
  return static_cast<double>(std::fabs(reached - std::clamp(want, -after, after)) / unit);
}

template <class T>
void test_functions(const KernelTable& table) {
  if (std::numeric_limits<Wide<T>>::digits < std::numeric_limits<T>::digits + 8) return;
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  const std::size_t n = quick ? 20'000 : 200'000;
  std::vector<T> x = {T(0), T(-0.0), T(1), T(-1), T(1e30), T(-1e30), T(1e-30), T(-1e-30)};
  x.push_back(std::numeric_limits<T>::infinity());
  x.push_back(-std::numeric_limits<T>::infinity());
  x.push_back(std::numeric_limits<T>::quiet_NaN());
  const double range = sizeof(T) == 4 ? 105 : 750;
  while (x.size() < n) {
    const auto pattern = static_cast<Bits>(random_bits());  // every exponent, denormals, NaN
    T any;
    std::memcpy(&any, &pattern, sizeof(any));
    x.push_back(any);
    x.push_back(static_cast<T>(range * uniform()));
    x.push_back(static_cast<T>(4 * uniform()));
  }
  const DtypeKernels<T>& kernels = table.of<T>();
  decltype(kernels.exp) const functions[] = {kernels.exp, kernels.tanh, kernels.sigmoid};
  const char* const names[] = {"exp", "tanh", "sigmoid"};
  for (int f = 0; f < 3; ++f) {
    Group group(table.isa, dtype<T>, names[f], tolerance_ulp<T>);
    Guarded<T> y(x.size());
    functions[f](x.data(), y.data(), static_cast<Index>(x.size()));
    group.check(y.intact(), "written beside");
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (std::isnan(x[i]) || std::isnan(y.data()[i])) {
        group.check(std::isnan(x[i]) && std::isnan(y.data()[i]), "NaN");
        continue;
      }
      group.error(ulps<T>(y.data()[i], exact<T>(f, Wide<T>(x[i]))), "at " + std::to_string(x[i]));
    }
    for (std::size_t i = 0; i + 40 < x.size();
         i += 997) {  // a tail gives the bits of a whole vector
      Guarded<T> tail(1 + i % 37);
      functions[f](x.data() + i, tail.data(), static_cast<Index>(tail.size()));
      const bool same = std::memcmp(tail.data(), y.data() + i, tail.size() * sizeof(T)) == 0;
      group.check(same && tail.intact(), "tail");
    }
  }
}

// --- the fingerprint -----------------------------------------------------------------------------------

// All tables have the same, and any bit changes it. Its values are tested from Python.
void test_fingerprint(const KernelTable& table, const KernelTable& first) {
  Group group(table.isa, "-", "fingerprint", 0);
  for (const std::size_t n : {0, 1, 2, 15, 16, 17, 511, 512, 513, 5000}) {
    std::vector<std::uint32_t> words(n);
    for (std::uint32_t& word : words) word = static_cast<std::uint32_t>(random_bits());
    const auto of = [&](const KernelTable& by) {
      Fingerprint made;
      by.fingerprint(words.data(), static_cast<Index>(n * 4), made);
      return made;
    };
    const Fingerprint made = of(table);
    group.check(made == of(first), "another than that of " + std::string(first.isa));
    for (std::size_t i = 0; i < n; i += 1 + n / 97) {
      words[i] ^= std::uint32_t(1) << i % 32;
      group.check(!(made == of(table)), "a bit of word " + std::to_string(i));
      words[i] ^= std::uint32_t(1) << i % 32;
    }
    group.check(made == of(table), "the same words");
  }
}

// --- threads -------------------------------------------------------------------------------------------

std::chrono::steady_clock::time_point given_up;

// A barrier right behind an arrival that no one had to await: the other worker looks for that one late.
void test_meetings() {
  struct State {
    std::atomic<int> both{0}, through{0};
  } state;
  Group group("-", "-", "meetings", 0);
  given_up = std::chrono::steady_clock::now() + std::chrono::seconds(10);
  Team team([] { return std::chrono::steady_clock::now() > given_up; });
  Run what;
  what.threads = 2;
  // The second thread may come too late to take part.
  for (int attempt = 0; attempt < 100 && state.both == 0 && !team.cancelled(); ++attempt) {
    team.run(
        what,
        [](void* context, Worker& worker) {
          auto& [both, through] = *static_cast<State*>(context);
          if (worker.count < 2) return;
          ++both;
          if (!worker.arrive()) return;
          if (worker.index == 1) std::this_thread::sleep_for(std::chrono::milliseconds(20));
          if (worker.await(1 - worker.index) && worker.arrive() && worker.barrier()) ++through;
        },
        &state);
  }
  group.check(state.both == 0 || state.through == 2, "a worker is waited for for ever");
}

// --- the processor -------------------------------------------------------------------------------------

// Whether 1 * w + x * x is rounded once, as an FMA does: (1 + e)^2 - (1 + 2 e) is e^2, or 0 rounded twice.
template <class T>
bool fuses(const KernelTable& table) {
  const T e = std::ldexp(T(1), -(std::numeric_limits<T>::digits + 1) / 2);
  const T x[] = {1, 1 + e}, w[] = {-(1 + 2 * e), 1 + e};
  T y = 0;
  Linear<T> call{};
  call.rows = 1;
  call.in_features = 2;
  call.out_features = 1;
  call.x = x;
  call.weight = w;
  call.y = &y;
  Team team(nullptr);
  table.of<T>().linear_forward(call, team);
  return y != 0;
}

// Denormals pass through a product as they are.
template <class T>
bool keeps_denormals(const KernelTable& table) {
  const T x = std::numeric_limits<T>::denorm_min() * 6, w = T(0.5);
  T y = 0;
  Linear<T> call{};
  call.rows = call.in_features = call.out_features = 1;
  call.x = &x;
  call.weight = &w;
  call.y = &y;
  Team team(nullptr);
  table.of<T>().linear_forward(call, team);
  return y == std::numeric_limits<T>::denorm_min() * 3;
}

struct Known {
  const char* isa;
  int vector_bytes;
  bool fuses;
};
constexpr Known known[] = {{"avx512", 64, true},
                           {"avx2", 32, true},
                           {"wide", 64, true},
                           {"baseline", 16, false},
                           {"neon", 16, true}};

// That this table is what its name says: its vectors, its multiply-add, and code of its own.
void test_processor(const KernelTable& table, const std::vector<const KernelTable*>& others) {
  Group group(table.isa, "-", std::to_string(table.vector_bytes * 8) + "-bit vectors", 0);
  for (const Known& expected : known) {
    if (std::strcmp(expected.isa, table.isa) != 0) continue;
    group.check(table.vector_bytes == expected.vector_bytes, "vector width");
    group.check(fuses<float>(table) == expected.fuses, "float32 multiply-add");
    group.check(fuses<double>(table) == expected.fuses, "float64 multiply-add");
  }
  for (const KernelTable* other : others) {
    group.check(other == &table || other->f32.cells[0].forward != table.f32.cells[0].forward,
                "the code of another instruction set");
  }
  group.check(keeps_denormals<float>(table) && keeps_denormals<double>(table), "denormals");
  group.check(std::fegetround() == FE_TONEAREST, "rounding mode");
}

template <class T>
void test_dtype(const KernelTable& table) {
  const DtypeKernels<T>& kernels = table.of<T>();
  for (int i = 0; i < kernels.cell_count; ++i) {
    const CellKernels<T>& cell = kernels.cells[i];
    test_cell(table, cell, 0);
    // Those of two phases have no further ones.
    if (std::strcmp(cell.name, "gru_reset_before") == 0 || std::strcmp(cell.name, "mgu") == 0) {
      continue;
    }
    for (unsigned phases = 1; phases < (cell.has_c ? 8u : 2u); ++phases) {
      test_cell(table, cell, phases);
    }
  }
  test_linear<T>(table);
  test_functions<T>(table);
}

int run_all(const std::vector<std::string>& names) {
  std::vector<const KernelTable*> tables;
  for (const std::string& name : names) {
    const KernelTable* const table = isa_of(name).table;
    if (std::find(tables.begin(), tables.end(), table) == tables.end()) tables.push_back(table);
  }
  test_meetings();
  for (const KernelTable* table : tables) {
    test_processor(*table, tables);
    test_fingerprint(*table, *tables.front());
    test_dtype<float>(*table);
    test_dtype<double>(*table);
  }
  std::puts(failed ? "FAILED" : "all is well");
  return failed ? 1 : 0;
}

}  // namespace
}  // namespace pyrnn::selftest

int main(int argc, char** argv) {
  std::vector<std::string> names;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--quick") == 0) {
      pyrnn::selftest::quick = true;
    } else {
      names.emplace_back(argv[i]);
    }
  }
  try {
    if (names.empty()) {
      for (const pyrnn::Isa& isa : pyrnn::available_isas()) names.emplace_back(isa.name);
    }
    return pyrnn::selftest::run_all(names);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}
