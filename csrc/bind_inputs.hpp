// What an operation and a frozen layer check alike: the cell, lengths and tokens.
#pragma once

#include <algorithm>
#include <numeric>

#include "bind.hpp"
#include "dispatch.hpp"

namespace pyrnn {

using Array = py::array;
using Maybe = std::optional<py::array>;

template <class T>
const CellKernels<T>& find_cell(const std::string& name) {
  const DtypeKernels<T>& table = kernels().of<T>();
  for (int i = 0; i < table.cell_count; ++i) {
    if (name == table.cells[i].name) return table.cells[i];
  }
  throw py::value_error(text("cell: no cell of the name '", name, "'"));
}

// Calls f(T()) with the dtype of the call.
template <class F>
auto with_dtype(bool is_float32, F f) {
  return is_float32 ? f(float()) : f(double());
}

// Where a call begins within the sequences that `lengths` speaks of: a chunk of a longer pass.
constexpr Index whole = -1;

inline Array check_lengths(const py::object& object, Index T, Index B, Index start = whole) {
  const Array given = Array::ensure(object);
  if (!given) {
    PyErr_Clear();
    throw py::type_error("lengths: expected an array of integers");
  }
  // An empty list has no integers to give it a dtype.
  if (!is_integer(given) && given.size() > 0) {
    throw py::type_error(text("lengths: expected integers, got ", dtype_text(given)));
  }
  check_shape("lengths", given, {{"B", B}});
  const auto lengths = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>(given);
  for (Index i = 0; i < B; ++i) {
    if (lengths.at(i) < 0 || (start == whole && lengths.at(i) > T)) {
      throw py::value_error(text("lengths: expected values in 0..T = 0..", T, ", got ",
                                 py::str(given[py::int_(i)]).cast<std::string>()));
    }
  }
  return lengths;
}

inline Array check_tokens(const Array& x, Index T, Index B, Index I, const Maybe& lengths) {
  const auto tokens = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>(x);
  const std::int64_t* const length = data<std::int64_t>(lengths);
  for (Index b = 0; b < B; ++b) {
    const Index valid = length == nullptr ? T : static_cast<Index>(length[b]);
    for (Index t = 0; t < valid; ++t) {
      const std::int64_t token = tokens.at(t, b);
      if (token < 0 || token >= I) {
        throw py::index_error(text("x: expected tokens in 0..I-1 = 0..", I - 1, ", got ", token));
      }
    }
  }
  return native(tokens);
}

// What is left of the lengths in steps [start, start + T).
inline Array lengths_of_chunk(const Array& lengths, Index T, Index start) {
  py::array_t<std::int64_t> left(lengths.size());
  const auto* const from = static_cast<const std::int64_t*>(lengths.data());
  std::transform(from, from + lengths.size(), left.mutable_data(), [&](std::int64_t length) {
    return std::clamp<std::int64_t>(length - start, 0, T);
  });
  return left;
}

inline std::vector<Index> by_falling_length(const Array& lengths) {
  const auto* const length = static_cast<const std::int64_t*>(lengths.data());
  std::vector<Index> order(static_cast<std::size_t>(lengths.size()));
  std::iota(order.begin(), order.end(), Index(0));
  std::stable_sort(order.begin(), order.end(),
                   [length](Index a, Index b) { return length[a] > length[b]; });
  return order;
}

}  // namespace pyrnn
