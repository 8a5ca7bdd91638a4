// The product of reduced precision, for its tests.
#include <algorithm>

#include "bind.hpp"
#include "bindings.hpp"
#include "dispatch.hpp"

namespace pyrnn {
namespace {

void check_float32(const char* name, const py::array& array, std::initializer_list<Axis> axes) {
  if (!is_float(array) || array.itemsize() != sizeof(float)) {
    throw py::type_error(text(name, ": expected float32, got ", dtype_text(array)));
  }
  check_shape(name, array, axes);
}

const Precision& find_precision(const std::string& name) {
  std::string known;
  for (const Precision* p : isa().precisions) {
    if (name == p->name) return *p;
    known += (known.empty() ? "" : " or ") + std::string(p->name);
  }
  throw py::value_error(text("precision: expected ", known, ", got '", name, "'"));
}

// base is one row [M] for all, or [N, M].
py::array product(const std::string& name, const py::array& x_, const py::array& w_,
                  const py::array& base_, int groups) {
  const Precision& precision = find_precision(name);
  check_float32("x", x_, {{"N"}, {"K"}});
  const Index N = x_.shape(0), K = x_.shape(1);
  check_float32("w", w_, {{"M"}, {"K", K}});
  const Index M = w_.shape(0);
  if (groups < 1 || groups > 4 || M % groups != 0) {
    throw py::value_error(text("groups: expected 1 to 4 that divide M = ", M, ", got ", groups));
  }
  if (K > precision.max_depth) {
    throw py::value_error(text("x: expected at most ", precision.max_depth, " columns, got ", K));
  }
  if (base_.ndim() == 1) {
    check_float32("base", base_, {{"M", M}});
  } else {
    check_float32("base", base_, {{"N", N}, {"M", M}});
  }
  const py::array x = native(x_), w = native(w_), base = native(base_);
  checked_size("the product", {N, M}, sizeof(float));
  py::array_t<float> c(std::vector<Index>{N, M});
  ReducedProduct call{};
  call.precision = &precision;
  call.rows = N;
  call.depth = K;
  call.columns = M / groups;
  call.groups = groups;
  call.x = static_cast<const float*>(x.data());
  call.w = static_cast<const float*>(w.data());
  call.c = c.mutable_data();
  const float* const from = static_cast<const float*>(base.data());
  if (base.ndim() == 1) {
    call.base_row = from;
  } else {
    std::copy_n(from, N * M, call.c);
  }
  run([&](Team& team) { kernels().reduced_product(call, team); });
  return c;
}

}  // namespace

void bind_reduced(py::module_& m) {
  m.def("reduced_product", &product, py::arg("precision"), py::arg("x"), py::arg("w"),
        py::arg("base"), py::arg("groups") = 1);
}

}  // namespace pyrnn
