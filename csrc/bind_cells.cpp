// forward and backward of a cell: checks, allocation, then the kernels without the GIL.
#include "bind_inputs.hpp"
#include "bindings.hpp"

namespace pyrnn {
namespace {

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

std::string gate_rows(int gates) { return gates == 1 ? "H" : text(gates, "·H"); }

Array check_float(const char* name, const Array& array, const char* like_name, const Array& like) {
  if (!is_float(array)) {
    throw py::type_error(text(name, ": expected float32 or float64, got ", dtype_text(array)));
  }
  if (array.itemsize() != like.itemsize()) {
    throw py::type_error(text(name, ": expected ", dtype_text(like), " like ", like_name, ", got ",
                              dtype_text(array)));
  }
  return array;
}

Maybe optional_array(const char* name, const py::object& object) {
  if (object.is_none()) return std::nullopt;
  return as_array(name, object);
}

// w_ih says what G*H and I are, x what T and B are; all else must agree.
Checked check(const CellKernels<float>& cell, const py::object& x_, const py::object& h0_,
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

// Into `y_`, or a new array where that is None.
template <class T>
py::tuple forward_of(const std::string& name, const Checked& c, bool reverse, bool save,
                     const py::object& y_) {
  const CellKernels<T>& cell = find_cell<T>(name);
  const auto [seq_len, batch_size, input_size, hidden_size] = c.shape;
  const std::vector<Index> all{seq_len, batch_size, hidden_size}, state{batch_size, hidden_size};
  using Out = std::optional<py::array_t<T>>;
  py::array_t<T> y = y_.is_none() ? py::array_t<T>(all) : check_out<T>("y", y_, all);
  py::array_t<T> h_n(state);
  Out c_n, gates, tape_h, tape_c;
  if (cell.has_c) c_n.emplace(state);
  if (save) {
    gates.emplace(std::vector<Index>{seq_len, batch_size, cell.columns * hidden_size});
    if (cell.tapes_h) tape_h.emplace(all);
    if (cell.has_c) tape_c.emplace(all);
  }

  Forward<T> call{};
  call.in = inputs_of<T>(c, reverse);
  call.tape = {pointer(gates), pointer(tape_h), pointer(tape_c)};
  call.save = save;
  call.y = y.mutable_data();
  call.h_n = h_n.mutable_data();
  call.c_n = pointer(c_n);
  run(cell.forward, call);

  py::object inputs = py::none(), saved = py::none();
  if (save) {
    inputs = py::make_tuple(c.x, c.h0, c.c0, c.w_ih, c.w_hh, c.b_ih, c.b_hh, c.lengths);
    saved = py::make_tuple(gates, tape_h, tape_c);
  }
  return py::make_tuple(y, h_n, c_n, inputs, saved);
}

// Gradients that come in: checked against the shape of the pass.
struct Incoming {
  Maybe dy, dh_n, dc_n;
};

Incoming check_incoming(const CellKernels<float>& cell, Index T, Index B, Index H,
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

Array check_saved(const char* name, const py::object& object, const Array& like,
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

template <class T>
py::tuple backward_of(const std::string& name, const Checked& c, const py::tuple& saved,
                      bool reverse, const Incoming& incoming, const py::object& into) {
  const CellKernels<T>& cell = find_cell<T>(name);
  const auto [seq_len, batch_size, input_size, hidden_size] = c.shape;
  const Array gates = check_saved("tape.gates", saved[0], c.w_hh,
                                  {seq_len, batch_size, cell.columns * hidden_size});
  Maybe tape_h, tape_c;
  if (cell.tapes_h) {
    tape_h = check_saved("tape.h", saved[1], c.w_hh, {seq_len, batch_size, hidden_size});
  }
  if (cell.has_c) {
    tape_c = check_saved("tape.c", saved[2], c.w_hh, {seq_len, batch_size, hidden_size});
  }
  Outgoing<T> out = into.is_none()
                        ? new_outgoing(cell, c)
                        : check_outgoing(cell, c, py::reinterpret_borrow<py::tuple>(into));
  using Sizes = std::vector<Index>;
  py::array_t<T> dh0(Sizes{batch_size, hidden_size});
  std::optional<py::array_t<T>> dc0;
  if (cell.has_c) dc0.emplace(Sizes{batch_size, hidden_size});

  Backward<T> call{};
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
  run(cell.backward, call);
  return py::make_tuple(out.dx, dh0, dc0, out.dw_ih, out.dw_hh, out.db_ih, out.db_hh);
}

Checked check_tuple(const CellKernels<float>& cell, const py::tuple& in, Index start = whole) {
  if (in.size() != 8) throw py::value_error("tape: expected the inputs of a forward pass");
  return check(cell, in[0], in[1], in[2], in[3], in[4], in[5], in[6], in[7], start);
}

py::tuple forward(const std::string& name, const Checked& c, bool reverse, bool save,
                  const py::object& y) {
  return with_dtype(c.is_float32, [&](auto zero) {
    return forward_of<decltype(zero)>(name, c, reverse, save, y);
  });
}

py::tuple backward(const std::string& name, const Checked& c, const py::tuple& saved, bool reverse,
                   const py::object& dy, const py::object& dh_n, const py::object& dc_n,
                   const py::object& into) {
  const Incoming incoming = check_incoming(find_cell<float>(name), c.shape.T, c.shape.B, c.shape.H,
                                           c.w_hh, dy, dh_n, dc_n);
  return with_dtype(c.is_float32, [&](auto zero) {
    return backward_of<decltype(zero)>(name, c, saved, reverse, incoming, into);
  });
}

Index check_start(Index start) {
  if (start < 0) throw py::value_error(text("start: expected at least 0, got ", start));
  return start;
}

}  // namespace

void bind_cells(py::module_& m) {
  using Object = const py::object&;
  m.def("check_forward", [](const std::string& name, Object x, Object h0, Object c0, Object w_ih,
                            Object w_hh, Object b_ih, Object b_hh, Object lengths) {
    const Checked c = check(find_cell<float>(name), x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths);
    return py::make_tuple(c.x, c.h0, c.c0, c.w_ih, c.w_hh, c.b_ih, c.b_hh, c.lengths);
  });
  m.def("forward", [](const std::string& name, Object x, Object h0, Object c0, Object w_ih,
                      Object w_hh, Object b_ih, Object b_hh, Object lengths, bool reverse,
                      bool save) {
    return forward(name, check(find_cell<float>(name), x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths),
                   reverse, save, py::none());
  });
  m.def("check_lengths", [](Object lengths, Index seq_len, Index batch_size) -> Maybe {
    if (lengths.is_none()) return std::nullopt;
    return check_lengths(lengths, seq_len, batch_size, whole);
  });
  m.def("check_backward", [](const std::string& name, const Array& x, const Array& h0,
                             const Array& w_hh, Object dy, Object dh_n, Object dc_n) {
    const Incoming incoming = check_incoming(find_cell<float>(name), x.shape(0), h0.shape(0),
                                             h0.shape(1), w_hh, dy, dh_n, dc_n);
    return py::make_tuple(incoming.dy, incoming.dh_n, incoming.dc_n);
  });
  m.def("backward", [](const std::string& name, const py::tuple& inputs, const py::tuple& saved,
                       bool reverse, Object dy, Object dh_n, Object dc_n) {
    return backward(name, check_tuple(find_cell<float>(name), inputs), saved, reverse, dy, dh_n,
                    dc_n, py::none());
  });
  // Steps [start, start + T) of sequences of the given lengths; y and gradients go where they belong in
  // the arrays of the whole pass.
  m.def("forward_chunk", [](const std::string& name, const py::tuple& inputs, bool reverse,
                            bool save, Index start, Object y) {
    const Checked c = check_tuple(find_cell<float>(name), inputs, check_start(start));
    return forward(name, c, reverse, save, y);
  });
  m.def("backward_chunk",
        [](const std::string& name, const py::tuple& inputs, const py::tuple& saved, bool reverse,
           Object dy, Object dh_n, Object dc_n, Index start, const py::tuple& into) {
          const Checked c = check_tuple(find_cell<float>(name), inputs, check_start(start));
          return backward(name, c, saved, reverse, dy, dh_n, dc_n, into);
        });
}

}  // namespace pyrnn
