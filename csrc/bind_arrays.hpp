// New arrays for what a call writes.
#pragma once

#include <pybind11/numpy.h>

#include <memory>
#include <new>
#include <utility>
#include <vector>

#include "recycled.hpp"
#include "shapes.hpp"

namespace pyrnn {

namespace py = pybind11;

// What an array on recycled memory refers to. It is a buffer for NumPy, which lets a read-only array be made
// writable again only where what it refers to can be written to.
class RecycledMemory {
 public:
  explicit RecycledMemory(std::size_t bytes) : bytes_(bytes), data_(recycled::take(bytes)) {}
  RecycledMemory(const RecycledMemory&) = delete;
  RecycledMemory& operator=(const RecycledMemory&) = delete;
  ~RecycledMemory() { recycled::give_back(data_); }

  [[nodiscard]] void* data() const { return data_; }
  [[nodiscard]] std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_;
  void* data_;
};

// Uninitialised; a large one on recycled memory.
inline py::array new_array(const py::dtype& dtype, const std::vector<Index>& shape) {
  auto bytes = static_cast<std::size_t>(dtype.itemsize());
  for (const Index size : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::size_t>(size), &bytes)) {
      throw std::bad_alloc();
    }
  }
  if (bytes < recycled::least) return py::array(dtype, shape);
  auto memory = std::make_unique<RecycledMemory>(bytes);
  const void* const data = memory->data();
  return py::array(dtype, shape, data, py::cast(std::move(memory)));
}

template <class T>
py::array_t<T> new_array(const std::vector<Index>& shape) {
  return py::reinterpret_steal<py::array_t<T>>(new_array(py::dtype::of<T>(), shape).release());
}

}  // namespace pyrnn
