// The linear layer on two-dimensional arrays that pyrnn/linear.py has made contiguous.
#include "bind.hpp"
#include "bindings.hpp"
#include "dispatch.hpp"

namespace pyrnn {
namespace {

using Array = py::array;

void check_like(const char* name, const Array& array, const Array& like,
                std::initializer_list<Axis> axes) {
  if (!is_float(array) || array.itemsize() != like.itemsize()) {
    throw py::type_error(
        text(name, ": expected ", dtype_text(like), " like weight, got ", dtype_text(array)));
  }
  check_shape(name, array, axes);
}

void check_weight(const Array& weight) {
  if (!is_float(weight)) {
    throw py::type_error(text("weight: expected float32 or float64, got ", dtype_text(weight)));
  }
  check_shape("weight", weight, {{"out"}, {"in"}});
}

template <class T>
py::array forward_of(const Array& x, const Array& weight, const std::optional<Array>& bias) {
  py::array_t<T> y = new_array<T>({x.shape(0), weight.shape(0)});
  Linear<T> call{};
  call.rows = x.shape(0);
  call.in_features = weight.shape(1);
  call.out_features = weight.shape(0);
  call.x = static_cast<const T*>(x.data());
  call.weight = static_cast<const T*>(weight.data());
  call.bias = data<T>(bias);
  call.y = y.mutable_data();
  run([&](Team& team) { kernels().of<T>().linear_forward(call, team); });
  return y;
}

template <class T>
py::tuple backward_of(const Array& x, const Array& weight, const Array& dy, bool need_dbias) {
  const Index in = weight.shape(1), out = weight.shape(0);
  py::array_t<T> dx = new_array<T>({x.shape(0), in}), dweight = new_array<T>({out, in});
  std::optional<py::array_t<T>> dbias;
  if (need_dbias) dbias.emplace(std::vector<Index>{out});
  Linear<T> call{};
  call.rows = x.shape(0);
  call.in_features = in;
  call.out_features = out;
  call.x = static_cast<const T*>(x.data());
  call.weight = static_cast<const T*>(weight.data());
  call.dy = static_cast<const T*>(dy.data());
  call.dx = dx.mutable_data();
  call.dweight = dweight.mutable_data();
  call.dbias = dbias ? dbias->mutable_data() : nullptr;
  run([&](Team& team) { kernels().of<T>().linear_backward(call, team); });
  return py::make_tuple(dx, dweight, dbias);
}

}  // namespace

void bind_linear(py::module_& m) {
  m.def("linear_forward",
        [](const Array& x, const Array& weight, const py::object& bias) -> py::array {
          check_weight(weight);
          check_like("x", x, weight, {{"N"}, {"in", weight.shape(1)}});
          std::optional<Array> checked;
          if (!bias.is_none()) {
            checked = as_array("bias", bias);
            check_like("bias", *checked, weight, {{"out", weight.shape(0)}});
            checked = native(*checked);
          }
          checked_size("y", {x.shape(0), weight.shape(0)}, weight.itemsize());
          const Array a = native(x), w = native(weight);
          return w.itemsize() == 4 ? forward_of<float>(a, w, checked)
                                   : forward_of<double>(a, w, checked);
        });
  m.def("linear_backward",
        [](const Array& x, const Array& weight, const Array& dy, bool need_dbias) {
          check_weight(weight);
          check_like("x", x, weight, {{"N"}, {"in", weight.shape(1)}});
          check_like("dy", dy, weight, {{"N", x.shape(0)}, {"out", weight.shape(0)}});
          const Array a = native(x), w = native(weight), d = native(dy);
          return w.itemsize() == 4 ? backward_of<float>(a, w, d, need_dbias)
                                   : backward_of<double>(a, w, d, need_dbias);
        });
}

}  // namespace pyrnn
