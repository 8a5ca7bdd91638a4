// Threads, what this build is, and what the machine reaches; the elementwise functions and the fingerprint for
// their tests.
#include "bind.hpp"
#include "bindings.hpp"
#include "dispatch.hpp"
#include "latency.hpp"
#include "lender.hpp"
#include "probe.hpp"
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

// What `threads` and `bytes` have to be before anything is measured.
void check_threads(Index threads) {
  if (threads < 1 || threads > 1024) {
    throw py::value_error(text("threads: expected 1 to 1024, got ", threads));
  }
}

py::dict probe(Index threads) {
  check_threads(threads);
  const int n = static_cast<int>(threads);
  py::dict result;
  result["fma_float32"] = fma_rate<float>(n);
  result["fma_float64"] = fma_rate<double>(n);
  result["region_ns"] = region_time(n);
  result["barrier_ns"] = barrier_time(n);
  return result;
}

double checked_read_rate(Index bytes, Index threads) {
  check_threads(threads);
  if (bytes < 4096 || bytes > Index{1} << 32) {
    throw py::value_error(text("bytes: expected 4096 to 2**32, got ", bytes));
  }
  return read_rate(bytes, static_cast<int>(threads));
}

std::string compiler() {
#if defined(__clang__)
  return "clang " __clang_version__;
#else
  return "gcc " __VERSION__;
#endif
}

std::vector<std::string> isa_names() {
  std::vector<std::string> names;
  for (const Isa& available : available_isas()) names.emplace_back(available.name);
  return names;
}

py::dict config() {
  py::dict result;
  result["version"] = PYRNN_VERSION;
  result["isa"] = isa().name;
  result["available_isas"] = isa_names();
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
  m.def("fingerprint", [](const std::vector<py::array>& arrays) {
    Fingerprint of;
    for (const py::array& array : arrays) {
      const py::array whole = native(array);
      kernels().fingerprint(whole.data(), whole.nbytes(), of);
    }
    return py::make_tuple(of.value[0], of.value[1]);
  });
  m.def("set_num_threads", [](Index n) {
    if (n < 1 || n > 1 << 16) {
      throw py::value_error(text("n: expected at least 1 (and at most 65536), got ", n));
    }
    set_num_threads(static_cast<int>(n));
  });
  m.def("get_num_threads", &num_threads);
  py::class_<Lender>(m, "Lender")
      .def(py::init<const char*>())
      .def_property_readonly("found", &Lender::found)
      .def("__enter__", [](const Lender& lender) { Lender::use(&lender); })
      .def("__exit__", [](const Lender&, const py::args&) { Lender::use(nullptr); });
  py::class_<RecycledMemory>(m, "RecycledMemory", py::buffer_protocol())
      .def_buffer([](const RecycledMemory& memory) {
        return py::buffer_info(static_cast<unsigned char*>(memory.data()),
                               static_cast<Index>(memory.bytes()));
      });
  m.def("empty", [](const std::vector<Index>& shape, const py::array& like) -> py::array {
    for (const Index size : shape) {
      if (size < 0) throw py::value_error(text("shape: expected no negative size, got ", size));
    }
    return new_array(like.dtype(), shape);
  });
  m.def("recycled", [] {
    const auto [used, kept] = recycled::held();
    return py::make_tuple(used, kept);
  });
  m.def("busy", &strain::lasts);
  m.def("heed_load", &strain::heed);
  m.def("latency", &latency::known_ns);
  m.def("note_latency", &latency::note);
  m.def("config", &config);
  m.def("available_isas", &isa_names);
  m.def("probe", &probe, py::arg("threads") = 1);
  m.def("read_rate", &checked_read_rate, py::arg("bytes"), py::arg("threads") = 1);
  m.def("core_latency", &core_latency);
}

}  // namespace pyrnn
