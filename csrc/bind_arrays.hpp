// New arrays for what a call writes.
#pragma once

#include <pybind11/numpy.h>

#include <cstdint>
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

inline std::size_t bytes_of(std::size_t bytes, const std::vector<Index>& shape) {
  for (const Index size : shape) {
    if (__builtin_mul_overflow(bytes, static_cast<std::size_t>(size), &bytes)) {
      throw std::bad_alloc();
    }
  }
  return bytes;
}

// Where rows of whole cache lines begin within one, the last of one thread's and the first of another's share it.
constexpr std::size_t least_aligned = 2048;

// Uninitialised; but for a few values it starts on a cache line, and a large one is on recycled memory.
inline py::array new_array(const py::dtype& dtype, const std::vector<Index>& shape) {
  const std::size_t bytes = bytes_of(static_cast<std::size_t>(dtype.itemsize()), shape);
  if (bytes < least_aligned) return py::array(dtype, shape);
  if (bytes < recycled::least) {
    constexpr std::size_t line = 64;
    py::array_t<unsigned char> room(static_cast<Index>(bytes + line));
    const std::size_t past = reinterpret_cast<std::uintptr_t>(room.data()) % line;
    return py::array(dtype, shape, room.data() + (line - past) % line, room);
  }
  auto memory = std::make_unique<RecycledMemory>(bytes);
  const void* const data = memory->data();
  return py::array(dtype, shape, data, py::cast(std::move(memory)));
}

template <class T>
py::array_t<T> new_array(const std::vector<Index>& shape) {
  if (bytes_of(sizeof(T), shape) < least_aligned) return py::array_t<T>(shape);
  return py::reinterpret_steal<py::array_t<T>>(new_array(py::dtype::of<T>(), shape).release());
}

// As `array.flags.writeable = False`, which takes longer.
inline void make_read_only(const py::array& array) {
  py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
}

}  // namespace pyrnn
