// New arrays for what a call writes.
#pragma once

#include <pybind11/numpy.h>

#include <new>
#include <vector>

#include "recycled.hpp"
#include "shapes.hpp"

namespace pyrnn {

namespace py = pybind11;

// Uninitialised; a large one on recycled memory.
inline py::array new_array(const py::dtype& dtype, const std::vector<Index>& shape) {
  auto bytes = static_cast<std::size_t>(dtype.itemsize());
  for (const Index size : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::size_t>(size), &bytes)) {
      throw std::bad_alloc();
    }
  }
  if (bytes < recycled::least) return py::array(dtype, shape);
  void* const memory = recycled::take(bytes);
  PyObject* const owner = PyCapsule_New(memory, nullptr, [](PyObject* capsule) {
    recycled::give_back(PyCapsule_GetPointer(capsule, nullptr));
  });
  if (owner == nullptr) {
    recycled::give_back(memory);
    throw py::error_already_set();
  }
  return py::array(dtype, shape, memory, py::reinterpret_steal<py::object>(owner));
}

template <class T>
py::array_t<T> new_array(const std::vector<Index>& shape) {
  return py::reinterpret_steal<py::array_t<T>>(new_array(py::dtype::of<T>(), shape).release());
}

}  // namespace pyrnn
