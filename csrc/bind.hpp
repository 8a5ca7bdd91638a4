// From Python's arrays to pointers: every argument is checked here, and made native and contiguous, before
// any memory is written. Messages name the argument, what was expected and what came.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "bind_arrays.hpp"
#include "bindings.hpp"
#include "shapes.hpp"
#include "team.hpp"

namespace pyrnn {

template <class... Part>
std::string text(const Part&... part) {
  std::ostringstream out;
  (out << ... << part);
  return out.str();
}

// One axis: how the message writes it, and the size it must have (-1: any).
struct Axis {
  std::string_view symbol;
  Index size = -1;
};

inline std::string tuple_text(const std::vector<std::string>& parts) {
  std::string out = "(";
  for (std::size_t i = 0; i < parts.size(); ++i) out += (i > 0 ? ", " : "") + parts[i];
  return out + (parts.size() == 1 ? ",)" : ")");
}

inline std::string shape_text(const py::array& array) {
  std::vector<std::string> parts;
  for (Index i = 0; i < array.ndim(); ++i) parts.push_back(std::to_string(array.shape(i)));
  return tuple_text(parts);
}

inline std::string dtype_text(const py::array& array) {
  return py::str(py::object(array.dtype())).cast<std::string>();
}

inline py::array as_array(const char* name, const py::object& object) {
  if (!py::isinstance<py::array>(object)) {
    throw py::type_error(text(name, ": expected a NumPy array, got ",
                              py::str(py::type::of(object).attr("__name__")).cast<std::string>()));
  }
  return py::reinterpret_borrow<py::array>(object);
}

inline void check_shape(const char* name, const py::array& array,
                        std::initializer_list<Axis> axes) {
  bool same = array.ndim() == static_cast<Index>(axes.size());
  const Index* shape = array.shape();
  for (auto axis = axes.begin(); same && axis != axes.end(); ++axis, ++shape) {
    same = axis->size < 0 || *shape == axis->size;
  }
  if (same) return;
  std::vector<std::string> symbols, sizes;
  for (const Axis& axis : axes) {
    symbols.emplace_back(axis.symbol);
    sizes.push_back(axis.size < 0 ? symbols.back() : std::to_string(axis.size));
  }
  std::string expected = tuple_text(symbols);
  if (tuple_text(sizes) != expected) expected += " = " + tuple_text(sizes);
  throw py::value_error(text(name, ": expected shape ", expected, ", got ", shape_text(array)));
}

// Of a shape whose sizes say all.
inline void check_exact_shape(const char* name, const py::array& array,
                              const std::vector<Index>& sizes) {
  if (std::equal(sizes.begin(), sizes.end(), array.shape(), array.shape() + array.ndim())) return;
  std::vector<std::string> parts;
  for (const Index size : sizes) parts.push_back(std::to_string(size));
  throw py::value_error(
      text(name, ": expected shape ", tuple_text(parts), ", got ", shape_text(array)));
}

inline bool is_float(const py::array& array) {
  const py::dtype dtype = array.dtype();
  return dtype.kind() == 'f' && (dtype.itemsize() == 4 || dtype.itemsize() == 8);
}

inline bool is_integer(const py::array& array) {
  return array.dtype().kind() == 'i' || array.dtype().kind() == 'u';
}

// Same contents, native byte order, C-contiguous, aligned and no subclass: itself where it is so already.
inline py::array native(const py::array& array) {
  constexpr int wanted =
      py::detail::npy_api::NPY_ARRAY_C_CONTIGUOUS_ | py::detail::npy_api::NPY_ARRAY_ALIGNED_;
  const char order = array.dtype().byteorder();
  const bool plain = Py_TYPE(array.ptr()) == py::detail::npy_api::get().PyArray_Type_;
  if (plain && (array.flags() & wanted) == wanted && (order == '=' || order == '|')) return array;
  const py::dtype dtype = py::dtype::from_args(array.dtype().attr("newbyteorder")("="));
  const py::array copy = new_array(dtype, {array.shape(), array.shape() + array.ndim()});
  py::module_::import("numpy").attr("copyto")(copy, array);
  return copy;
}

// The product of sizes, refused when its bytes cannot be addressed.
inline Index checked_size(const char* what, std::initializer_list<Index> sizes, Index itemsize) {
  Index product = itemsize;
  bool empty = false;
  for (const Index size : sizes) empty = empty || size == 0;
  for (const Index size : sizes) {
    if (!empty && __builtin_mul_overflow(product, size, &product)) {
      std::vector<std::string> parts;
      for (const Index s : sizes) parts.push_back(std::to_string(s));
      throw py::value_error(text(what, ": the byte count of ", tuple_text(parts), " overflows"));
    }
  }
  return empty ? 0 : product;
}

// A checked array of T, or nothing.
template <class T>
const T* data(const std::optional<py::array>& array) {
  return array ? static_cast<const T*>(array->data()) : nullptr;
}

// Runs kernel(team) without the GIL; Ctrl-C comes out as its Python exception.
template <class Kernel>
void run(Kernel kernel) {
  Team team(&interrupted);
  {
    const py::gil_scoped_release without_gil;
    kernel(team);
  }
  if (team.cancelled()) throw py::error_already_set();
}

}  // namespace pyrnn
