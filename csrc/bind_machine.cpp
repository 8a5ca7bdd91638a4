// Threads, what this build is, and what the machine reaches; the elementwise functions for their tests.
#include <chrono>

#include "bind.hpp"
#include "bindings.hpp"
#include "dispatch.hpp"
#include "strain.hpp"

#ifdef _OPENMP
#include <omp.h>
#endif

namespace pyrnn {
namespace {

template <class T>
py::array elementwise(const std::string& name, const py::array& given) {
  const py::array x = native(given);
  py::array_t<T> y(std::vector<Index>(x.shape(), x.shape() + x.ndim()));
  const DtypeKernels<T>& table = kernels().of<T>();
  const auto function = name == "exp"       ? table.exp
                        : name == "tanh"    ? table.tanh
                        : name == "sigmoid" ? table.sigmoid
                                            : nullptr;
  if (function == nullptr) {
    throw py::value_error(text("name: expected exp, tanh or sigmoid, got '", name, "'"));
  }
  function(static_cast<const T*>(x.data()), y.mutable_data(), x.size());
  return y;
}

// The best of several stretches of fused multiply-adds on one thread, in GFLOP/s.
template <class T>
double fma_rate() {
  double best = 0;
  T sink = 0;
  for (int i = 0; i < 7; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const Index flops = kernels().of<T>().probe(400'000, &sink);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(flops) / seconds.count() * 1e-9);
  }
  return best;
}

// The rate at which one thread reads `bytes` again and again, in GB/s.
double read_rate(Index bytes) {
  const Index n = bytes / Index(sizeof(float));
  if (n < 1024) throw py::value_error(text("bytes: expected at least 4096, got ", bytes));
  const std::vector<float> data(static_cast<std::size_t>(n), 1.0F);
  const Index rounds = 1 + (Index{16} << 20) / bytes;
  double best = 0;
  float sink = 0;
  for (int i = 0; i < 7; ++i) {
    const auto start = std::chrono::steady_clock::now();
    kernels().f32.read(data.data(), n, rounds, &sink);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(rounds * bytes) / seconds.count() * 1e-9);
  }
  return best;
}

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "gcc " __VERSION__;
#endif
}

py::dict config() {
  py::dict result;
  result["version"] = PYRNN_VERSION;
  result["isa"] = kernels().isa;
  result["available_isas"] = available_isas();
  result["vector_bits"] = kernels().vector_bytes * 8;
#ifdef _OPENMP
  result["openmp"] = std::to_string(_OPENMP);
#else
  result["openmp"] = "none";
#endif
  result["threads"] = num_threads();
  result["compiler"] = compiler();
  return result;
}

}  // namespace

bool interrupted() {
  const py::gil_scoped_acquire gil;
  return PyErr_CheckSignals() != 0;
}

void bind_machine(py::module_& m) {
  kernels();  // an unknown PYRNN_ISA fails at import
  m.attr("__version__") = PYRNN_VERSION;
  m.def("vecmath", [](const std::string& name, const py::array& x) {
    if (!is_float(x)) {
      throw py::type_error(text("x: expected float32 or float64, got ", dtype_text(x)));
    }
    return x.itemsize() == 4 ? elementwise<float>(name, x) : elementwise<double>(name, x);
  });
  m.def("set_num_threads", [](Index n) {
    if (n < 1 || n > 1 << 16) {
      throw py::value_error(text("n: expected at least 1 (and at most 65536), got ", n));
    }
    set_num_threads(static_cast<int>(n));
  });
  m.def("get_num_threads", &num_threads);
  m.def("busy", &strain::lasts);
  m.def("heed_load", &strain::heed);
  m.def("config", &config);
  m.def("available_isas", &available_isas);
  m.def("probe", [] {
    py::dict result;
    result["fma_float32"] = fma_rate<float>();
    result["fma_float64"] = fma_rate<double>();
    return result;
  });
  m.def("read_rate", &read_rate);
}

}  // namespace pyrnn
