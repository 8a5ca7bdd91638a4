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

// In C order, on NumPy's own memory where `data` is null, else on that of `base`. pybind11's constructor takes twice
// as long.
inline py::array array_on(const py::dtype& dtype, const std::vector<Index>& shape,
                          void* data = nullptr, py::object base = {}) {
  const auto& api = py::detail::npy_api::get();
  const int flags = data == nullptr ? 0 : py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  auto made = py::reinterpret_steal<py::array>(api.PyArray_NewFromDescr_(
      api.PyArray_Type_, py::object(dtype).release().ptr(), static_cast<int>(shape.size()),
      shape.data(), nullptr, data, flags, nullptr));
  if (!made) throw py::error_already_set();
  if (base) api.PyArray_SetBaseObject_(made.ptr(), base.release().ptr());
  return made;
}

// Uninitialised; but for a few values it starts on a cache line, and a large one is on recycled memory.
inline py::array new_array(const py::dtype& dtype, const std::vector<Index>& shape) {
  const std::size_t bytes = bytes_of(static_cast<std::size_t>(dtype.itemsize()), shape);
  if (bytes < least_aligned) return array_on(dtype, shape);
  if (bytes < recycled::least) {
    constexpr std::size_t line = 64;
    py::array_t<unsigned char> room(static_cast<Index>(bytes + line));
    unsigned char* const start = room.mutable_data();
    const std::size_t past = reinterpret_cast<std::uintptr_t>(start) % line;
    return array_on(dtype, shape, start + (line - past) % line, std::move(room));
  }
  auto memory = std::make_unique<RecycledMemory>(bytes);
  void* const data = memory->data();
  return array_on(dtype, shape, data, py::cast(std::move(memory)));
}

template <class T>
py::array_t<T> new_array(const std::vector<Index>& shape) {
  return py::reinterpret_steal<py::array_t<T>>(new_array(py::dtype::of<T>(), shape).release());
}

// As `array.flags.writeable = False`, which takes longer.
inline void make_read_only(const py::array& array) {
  py::detail::array_proxy(array.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
}

}  // namespace pyrnn
