// The arguments of one pass of a cell: checked, native, and what it writes; then the call for the kernels.
#pragma once

#include <algorithm>
#include <numeric>
#include <utility>

#include "bind.hpp"
#include "dispatch.hpp"

namespace pyrnn {

using Array = py::array;
using Maybe = std::optional<py::array>;

// The arguments of a forward pass, checked and native.
struct Checked {
  Shape shape;
  bool is_float32;
  Array x, h0;
  Maybe c0;
  Array w_ih, w_hh;
  Maybe b_ih, b_hh, lengths;
  std::vector<Index> order;  // rows by falling length; empty without lengths
};

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

inline std::string gate_rows(int gates) { return gates == 1 ? "H" : text(gates, "·H"); }

inline Array check_float(const char* name, const Array& array, const char* like_name,
                         const Array& like) {
  if (!is_float(array)) {
    throw py::type_error(text(name, ": expected float32 or float64, got ", dtype_text(array)));
  }
  if (array.itemsize() != like.itemsize()) {
    throw py::type_error(text(name, ": expected ", dtype_text(like), " like ", like_name, ", got ",
                              dtype_text(array)));
  }
  return array;
}

inline Maybe optional_array(const char* name, const py::object& object) {
  if (object.is_none()) return std::nullopt;
  return as_array(name, object);
}

// Where a call begins within the sequences that `lengths` speaks of: a chunk of a longer pass.
constexpr Index whole = -1;

inline Array check_lengths(const py::object& object, Index T, Index B, Index start) {
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

// w_ih says what G*H and I are, x what T and B are; all else must agree.
inline Checked check(const CellKernels<float>& cell, const py::object& x_, const py::object& h0_,
                     const py::object& c0_, const py::object& w_ih_, const py::object& w_hh_,
                     const py::object& b_ih_, const py::object& b_hh_, const py::object& lengths_,
                     Index start = whole) {
  const Array x = as_array("x", x_), h0 = as_array("h0", h0_);
  const Array w_ih = as_array("w_ih", w_ih_), w_hh = as_array("w_hh", w_hh_);
  const Maybe b_ih = optional_array("b_ih", b_ih_), b_hh = optional_array("b_hh", b_hh_);
  const bool tokens = is_integer(x);

  check_float("w_ih", w_ih, "w_ih", w_ih);
  if (!tokens) check_float("x", x, "w_ih", w_ih);
  check_float("h0", h0, "w_ih", w_ih);
  Maybe c0;
  if (cell.has_c) c0 = check_float("c0", as_array("c0", c0_), "w_ih", w_ih);
  check_float("w_hh", w_hh, "w_ih", w_ih);
  if (b_ih) check_float("b_ih", *b_ih, "w_ih", w_ih);
  if (b_hh) check_float("b_hh", *b_hh, "w_ih", w_ih);

  const std::string rows = gate_rows(cell.gates);
  check_shape("w_ih", w_ih, {{rows}, {"I"}});
  const Index G = cell.gates, GH = w_ih.shape(0), H = GH / G, I = w_ih.shape(1);
  if (GH == 0 || GH % G != 0) {
    throw py::value_error(
        text("w_ih: expected shape (", rows, ", I) with H at least 1, got ", shape_text(w_ih)));
  }
  if (tokens) {
    check_shape("x", x, {{"T"}, {"B"}});
  } else {
    check_shape("x", x, {{"T"}, {"B"}, {"I", I}});
  }
  const Index T = x.shape(0), B = x.shape(1);
  check_shape("h0", h0, {{"B", B}, {"H", H}});
  if (c0) check_shape("c0", *c0, {{"B", B}, {"H", H}});
  check_shape("w_hh", w_hh, {{rows, GH}, {"H", H}});
  if (b_ih) check_shape("b_ih", *b_ih, {{rows, GH}});
  if (b_hh) check_shape("b_hh", *b_hh, {{rows, GH}});
  checked_size("x", {T, B, I}, w_ih.itemsize());
  checked_size("the gates (T, B, C·H)", {T, B, cell.columns, H}, w_ih.itemsize());

  const auto native_or_none = [](const Maybe& array) {
    return array ? Maybe(native(*array)) : std::nullopt;
  };
  Checked checked{};
  checked.shape = {T, B, I, H};
  checked.is_float32 = w_ih.itemsize() == 4;
  if (!lengths_.is_none()) {
    checked.lengths = check_lengths(lengths_, T, B, start);
    // A chunk has the order of the whole pass: the sums of its gradients are then the same chains.
    checked.order = by_falling_length(*checked.lengths);
    if (start != whole) checked.lengths = lengths_of_chunk(*checked.lengths, T, start);
  }
  checked.x = tokens ? check_tokens(x, T, B, I, checked.lengths) : native(x);
  checked.h0 = native(h0);
  checked.c0 = native_or_none(c0);
  checked.w_ih = native(w_ih);
  checked.w_hh = native(w_hh);
  checked.b_ih = native_or_none(b_ih);
  checked.b_hh = native_or_none(b_hh);
  return checked;
}

template <class T>
Inputs<T> inputs_of(const Checked& c, bool reverse) {
  const bool tokens = is_integer(c.x);
  Inputs<T> in{};
  in.shape = c.shape;
  in.x = tokens ? nullptr : static_cast<const T*>(c.x.data());
  in.tokens = tokens ? static_cast<const std::int64_t*>(c.x.data()) : nullptr;
  in.h0 = static_cast<const T*>(c.h0.data());
  in.c0 = data<T>(c.c0);
  in.lengths = data<std::int64_t>(c.lengths);
  in.order = c.lengths ? c.order.data() : nullptr;
  in.params = {static_cast<const T*>(c.w_ih.data()), static_cast<const T*>(c.w_hh.data()),
               data<T>(c.b_ih), data<T>(c.b_hh)};
  in.reverse = reverse;
  return in;
}

template <class T>
T* pointer(std::optional<py::array_t<T>>& array) {
  return array ? array->mutable_data() : nullptr;
}

// An array that is written to.
template <class T>
py::array_t<T> check_out(const char* name, const py::object& object,
                         const std::vector<Index>& shape) {
  const Array array = as_array(name, object);
  std::vector<Axis> axes;
  for (const Index size : shape) axes.push_back({std::to_string(size), size});
  check_shape(name, array, axes);
  if (!py::isinstance<py::array_t<T, py::array::c_style>>(array) || !array.writeable()) {
    throw py::value_error(text(name, ": expected a writable, contiguous array of ",
                               dtype_text(py::array_t<T>(0)), ", got ", dtype_text(array)));
  }
  return py::reinterpret_borrow<py::array_t<T>>(array);
}

// One forward pass: its arguments, what it writes, and the call for the kernels. Into `y_`, or a new array
// where that is None.
template <class T>
struct ForwardPass {
  using Out = std::optional<py::array_t<T>>;

  ForwardPass(const CellKernels<T>& cell, Checked checked, bool reverse, bool save,
              const py::object& y_)
      : c(std::move(checked)), h_n({c.shape.B, c.shape.H}) {
    const auto [seq_len, batch_size, input_size, hidden_size] = c.shape;
    const std::vector<Index> all{seq_len, batch_size, hidden_size};
    y = y_.is_none() ? py::array_t<T>(all) : check_out<T>("y", y_, all);
    if (cell.has_c) c_n.emplace(std::vector<Index>{batch_size, hidden_size});
    if (save) {
      gates.emplace(std::vector<Index>{seq_len, batch_size, cell.columns * hidden_size});
      if (cell.tapes_h) tape_h.emplace(all);
      if (cell.has_c) tape_c.emplace(all);
    }
    call.in = inputs_of<T>(c, reverse);
    call.tape = {pointer(gates), pointer(tape_h), pointer(tape_c)};
    call.save = save;
    call.y = y.mutable_data();
    call.h_n = h_n.mutable_data();
    call.c_n = pointer(c_n);
  }

  [[nodiscard]] py::tuple result() const {
    py::object inputs = py::none(), saved = py::none();
    if (call.save) {
      inputs = py::make_tuple(c.x, c.h0, c.c0, c.w_ih, c.w_hh, c.b_ih, c.b_hh, c.lengths);
      saved = py::make_tuple(gates, tape_h, tape_c);
    }
    return py::make_tuple(y, h_n, c_n, inputs, saved);
  }

  Checked c;
  py::array_t<T> y, h_n;
  Out c_n, gates, tape_h, tape_c;
  Forward<T> call{};
};

// Gradients that come in: checked against the shape of the pass.
struct Incoming {
  Maybe dy, dh_n, dc_n;
};

inline Incoming check_incoming(const CellKernels<float>& cell, Index T, Index B, Index H,
                               const Array& like, const py::object& dy_, const py::object& dh_n_,
                               const py::object& dc_n_) {
  const auto one = [&](const char* name, const py::object& object,
                       const std::vector<Axis>& axes) -> Maybe {
    const Maybe array = optional_array(name, object);
    if (!array) return std::nullopt;
    check_float(name, *array, "the tape", like);
    check_shape(name, *array, axes);
    return native(*array);
  };
  const std::vector<Axis> state{{"B", B}, {"H", H}};
  Incoming incoming;
  incoming.dy = one("dy", dy_, {{"T", T}, {"B", B}, {"H", H}});
  incoming.dh_n = one("dh_n", dh_n_, state);
  if (cell.has_c) incoming.dc_n = one("dc_n", dc_n_, state);
  return incoming;
}

inline Array check_saved(const char* name, const py::object& object, const Array& like,
                         std::initializer_list<Index> shape) {
  const Array array = check_float(name, as_array(name, object), "the tape", like);
  std::vector<Axis> axes;
  for (const Index size : shape) axes.push_back({std::to_string(size), size});
  check_shape(name, array, axes);
  return native(array);
}

// What backward writes: new arrays, or those of a longer pass.
template <class T>
struct Outgoing {
  std::optional<py::array_t<T>> dx;
  py::array_t<T> dw_ih, dw_hh;
  std::optional<py::array_t<T>> db_ih, db_hh;
  bool accumulate;
};

template <class T>
Outgoing<T> new_outgoing(const CellKernels<T>& cell, const Checked& c) {
  const Index rows = cell.gates * c.shape.H;
  using Out = py::array_t<T>;
  using Sizes = std::vector<Index>;
  Outgoing<T> out{{}, Out(Sizes{rows, c.shape.I}), Out(Sizes{rows, c.shape.H}), {}, {}, false};
  if (!is_integer(c.x)) out.dx.emplace(Sizes{c.shape.T, c.shape.B, c.shape.I});
  if (c.b_ih) out.db_ih.emplace(Sizes{rows});
  if (c.b_hh) out.db_hh.emplace(Sizes{rows});
  return out;
}

// (dx, dw_ih, dw_hh, db_ih, db_hh): dx is written, the others are added to.
template <class T>
Outgoing<T> check_outgoing(const CellKernels<T>& cell, const Checked& c, const py::tuple& given) {
  if (given.size() != 5) throw py::value_error("into: expected five arrays");
  const Index rows = cell.gates * c.shape.H;
  Outgoing<T> out{{},
                  check_out<T>("dw_ih", given[1], {rows, c.shape.I}),
                  check_out<T>("dw_hh", given[2], {rows, c.shape.H}),
                  {},
                  {},
                  true};
  if (!is_integer(c.x)) {
    out.dx = check_out<T>("dx", given[0], {c.shape.T, c.shape.B, c.shape.I});
  }
  if (c.b_ih) out.db_ih = check_out<T>("db_ih", given[3], {rows});
  if (c.b_hh) out.db_hh = check_out<T>("db_hh", given[4], {rows});
  return out;
}

// One backward pass, as ForwardPass. Into `into`, or new arrays where that is None.
template <class T>
struct BackwardPass {
  BackwardPass(const CellKernels<T>& cell, Checked checked, const py::tuple& saved, bool reverse,
               Incoming given, const py::object& into)
      : c(std::move(checked)),
        incoming(std::move(given)),
        gates(check_saved("tape.gates", saved[0], c.w_hh,
                          {c.shape.T, c.shape.B, cell.columns * c.shape.H})),
        out(into.is_none() ? new_outgoing(cell, c)
                           : check_outgoing(cell, c, py::reinterpret_borrow<py::tuple>(into))),
        dh0({c.shape.B, c.shape.H}) {
    const auto [seq_len, batch_size, input_size, hidden_size] = c.shape;
    if (cell.tapes_h) {
      tape_h = check_saved("tape.h", saved[1], c.w_hh, {seq_len, batch_size, hidden_size});
    }
    if (cell.has_c) {
      tape_c = check_saved("tape.c", saved[2], c.w_hh, {seq_len, batch_size, hidden_size});
      dc0.emplace(std::vector<Index>{batch_size, hidden_size});
    }
    call.in = inputs_of<T>(c, reverse);
    call.tape = {static_cast<const T*>(gates.data()), data<T>(tape_h), data<T>(tape_c)};
    call.dy = data<T>(incoming.dy);
    call.dh_n = data<T>(incoming.dh_n);
    call.dc_n = data<T>(incoming.dc_n);
    call.dx = pointer(out.dx);
    call.dh0 = dh0.mutable_data();
    call.dc0 = pointer(dc0);
    call.dw_ih = out.dw_ih.mutable_data();
    call.dw_hh = out.dw_hh.mutable_data();
    call.db_ih = pointer(out.db_ih);
    call.db_hh = pointer(out.db_hh);
    call.accumulate = out.accumulate;
  }

  [[nodiscard]] py::tuple result() const {
    return py::make_tuple(out.dx, dh0, dc0, out.dw_ih, out.dw_hh, out.db_ih, out.db_hh);
  }

  Checked c;
  Incoming incoming;
  Array gates;
  Maybe tape_h, tape_c;
  Outgoing<T> out;
  py::array_t<T> dh0;
  std::optional<py::array_t<T>> dc0;
  Backward<T> call{};
};

}  // namespace pyrnn
