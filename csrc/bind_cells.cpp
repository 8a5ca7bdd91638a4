// forward and backward of a cell: checks, allocation, then the kernels without the GIL.
#include <algorithm>
#include <numeric>

#include "bind.hpp"
#include "bindings.hpp"
#include "dispatch.hpp"

namespace pyrnn {
namespace {

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

Array check_lengths(const py::object& object, Index T, Index B) {
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
    if (lengths.at(i) < 0 || lengths.at(i) > T) {
      throw py::value_error(text("lengths: expected values in 0..T = 0..", T, ", got ",
                                 py::str(given[py::int_(i)]).cast<std::string>()));
    }
  }
  return lengths;
}

Array check_tokens(const Array& x, Index T, Index B, Index I, const Maybe& lengths) {
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

std::vector<Index> by_falling_length(const Array& lengths) {
  const auto* const length = static_cast<const std::int64_t*>(lengths.data());
  std::vector<Index> order(static_cast<std::size_t>(lengths.size()));
  std::iota(order.begin(), order.end(), Index(0));
  std::stable_sort(order.begin(), order.end(),
                   [length](Index a, Index b) { return length[a] > length[b]; });
  return order;
}

// w_ih says what G*H and I are, x what T and B are; all else must agree.
Checked check(const CellKernels<float>& cell, const py::object& x_, const py::object& h0_,
              const py::object& c0_, const py::object& w_ih_, const py::object& w_hh_,
              const py::object& b_ih_, const py::object& b_hh_, const py::object& lengths_) {
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
    checked.lengths = check_lengths(lengths_, T, B);
    checked.order = by_falling_length(*checked.lengths);
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

// One forward pass: its arguments, what it writes, and the call for the kernels.
template <class T>
struct ForwardPass {
  using Out = std::optional<py::array_t<T>>;

  ForwardPass(const CellKernels<T>& cell, Checked checked, bool reverse, bool save)
      : c(std::move(checked)), y({c.shape.T, c.shape.B, c.shape.H}), h_n({c.shape.B, c.shape.H}) {
    const auto [seq_len, batch_size, input_size, hidden_size] = c.shape;
    const std::vector<Index> all{seq_len, batch_size, hidden_size};
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

Checked check_tuple(const CellKernels<float>& cell, const py::tuple& in) {
  if (in.size() != 8) throw py::value_error("tape: expected the inputs of a forward pass");
  return check(cell, in[0], in[1], in[2], in[3], in[4], in[5], in[6], in[7]);
}

// One backward pass, as ForwardPass.
template <class T>
struct BackwardPass {
  using Out = std::optional<py::array_t<T>>;
  using Sizes = std::vector<Index>;

  BackwardPass(const CellKernels<T>& cell, Checked checked, const py::tuple& saved, bool reverse,
               Incoming given)
      : c(std::move(checked)),
        incoming(std::move(given)),
        dh0({c.shape.B, c.shape.H}),
        dw_ih({cell.gates * c.shape.H, c.shape.I}),
        dw_hh({cell.gates * c.shape.H, c.shape.H}) {
    const auto [seq_len, batch_size, input_size, hidden_size] = c.shape;
    const Index rows = cell.gates * hidden_size;
    gates = check_saved("tape.gates", saved[0], c.w_hh,
                        {seq_len, batch_size, cell.columns * hidden_size});
    if (cell.tapes_h) {
      tape_h = check_saved("tape.h", saved[1], c.w_hh, {seq_len, batch_size, hidden_size});
    }
    if (cell.has_c) {
      tape_c = check_saved("tape.c", saved[2], c.w_hh, {seq_len, batch_size, hidden_size});
    }
    if (!is_integer(c.x)) dx.emplace(Sizes{seq_len, batch_size, input_size});
    if (cell.has_c) dc0.emplace(Sizes{batch_size, hidden_size});
    if (c.b_ih) db_ih.emplace(Sizes{rows});
    if (c.b_hh) db_hh.emplace(Sizes{rows});

    call.in = inputs_of<T>(c, reverse);
    call.tape = {data<T>(gates), data<T>(tape_h), data<T>(tape_c)};
    call.dy = data<T>(incoming.dy);
    call.dh_n = data<T>(incoming.dh_n);
    call.dc_n = data<T>(incoming.dc_n);
    call.dx = pointer(dx);
    call.dh0 = dh0.mutable_data();
    call.dc0 = pointer(dc0);
    call.dw_ih = dw_ih.mutable_data();
    call.dw_hh = dw_hh.mutable_data();
    call.db_ih = pointer(db_ih);
    call.db_hh = pointer(db_hh);
  }

  [[nodiscard]] py::tuple result() const {
    return py::make_tuple(dx, dh0, dc0, dw_ih, dw_hh, db_ih, db_hh);
  }

  Checked c;
  Incoming incoming;
  Maybe gates, tape_h, tape_c;
  Out dx, dc0, db_ih, db_hh;
  py::array_t<T> dh0, dw_ih, dw_hh;
  Backward<T> call{};
};

// Runs passes side by side; their results, in order.
template <class Pass, class Kernel>
py::list run_passes(Kernel kernel, const std::vector<Pass>& passes, bool chained) {
  std::vector<decltype(Pass::call)> calls;
  for (const Pass& pass : passes) calls.push_back(pass.call);
  run([&](Team& team) { kernel(calls.data(), static_cast<int>(calls.size()), chained, team); });
  py::list results;
  for (const Pass& pass : passes) results.append(pass.result());
  return results;
}

// x of a pass may be None: it takes the y of the one before.
py::list forward_side_by_side(const std::string& name, const std::vector<py::tuple>& arguments,
                              const py::object& lengths, bool save) {
  const CellKernels<float>& cell = find_cell<float>(name);
  const auto argument = [&](std::size_t k, std::size_t i) { return py::object(arguments[k][i]); };
  const auto checked = [&](std::size_t k, const py::object& x) {
    if (arguments[k].size() != 8) throw py::value_error("expected 8 arguments of a pass");
    return check(cell, x, argument(k, 1), argument(k, 2), argument(k, 3), argument(k, 4),
                 argument(k, 5), argument(k, 6), lengths);
  };
  if (arguments.empty()) return py::list();
  Checked first = checked(0, argument(0, 0));
  return with_dtype(first.is_float32, [&](auto zero) {
    using T = decltype(zero);
    const CellKernels<T>& kernels = find_cell<T>(name);
    std::vector<ForwardPass<T>> passes;
    passes.reserve(arguments.size());
    bool chained = false;
    for (std::size_t k = 0; k < arguments.size(); ++k) {
      const bool takes_y = k > 0 && argument(k, 0).is_none();
      chained = chained || takes_y;
      const py::object x = takes_y ? py::object(passes[k - 1].y) : argument(k, 0);
      Checked c = k == 0 ? std::move(first) : checked(k, x);
      if (c.w_ih.itemsize() != Index(sizeof(T))) {
        throw py::type_error(
            text("w_ih: expected the dtype of the first pass, got ", dtype_text(c.w_ih)));
      }
      passes.emplace_back(kernels, std::move(c), argument(k, 7).template cast<bool>(), save);
    }
    return run_passes(kernels.forward, passes, chained);
  });
}

// Chained: the dy of each pass but the first is the dx of the one before.
py::list backward_side_by_side(const std::string& name, const std::vector<py::tuple>& arguments,
                               bool chained) {
  const CellKernels<float>& cell = find_cell<float>(name);
  const auto argument = [&](std::size_t k, std::size_t i) { return py::object(arguments[k][i]); };
  const auto checked = [&](std::size_t k) {
    if (arguments[k].size() != 6) throw py::value_error("expected 6 arguments of a pass");
    return check_tuple(cell, arguments[k][0]);
  };
  if (arguments.empty()) return py::list();
  Checked first = checked(0);
  return with_dtype(first.is_float32, [&](auto zero) {
    using T = decltype(zero);
    const CellKernels<T>& kernels = find_cell<T>(name);
    std::vector<BackwardPass<T>> passes;
    passes.reserve(arguments.size());
    for (std::size_t k = 0; k < arguments.size(); ++k) {
      Checked c = k == 0 ? std::move(first) : checked(k);
      if (c.is_float32 != (sizeof(T) == sizeof(float))) {
        throw py::type_error("tape: expected one dtype in all passes");
      }
      const py::object dy = k > 0 && chained ? py::cast(passes[k - 1].dx) : argument(k, 3);
      Incoming incoming = check_incoming(cell, c.shape.T, c.shape.B, c.shape.H, c.w_hh, dy,
                                         argument(k, 4), argument(k, 5));
      passes.emplace_back(kernels, std::move(c), argument(k, 1),
                          argument(k, 2).template cast<bool>(), std::move(incoming));
    }
    return run_passes(kernels.backward, passes, chained);
  });
}

}  // namespace

void bind_cells(py::module_& m) {
  m.def("check_forward", [](const std::string& name, const py::object& x, const py::object& h0,
                            const py::object& c0, const py::object& w_ih, const py::object& w_hh,
                            const py::object& b_ih, const py::object& b_hh,
                            const py::object& lengths) {
    const Checked c = check(find_cell<float>(name), x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths);
    return py::make_tuple(c.x, c.h0, c.c0, c.w_ih, c.w_hh, c.b_ih, c.b_hh, c.lengths);
  });
  m.def("forward",
        [](const std::string& name, const py::object& x, const py::object& h0, const py::object& c0,
           const py::object& w_ih, const py::object& w_hh, const py::object& b_ih,
           const py::object& b_hh, const py::object& lengths, bool reverse, bool save) {
          Checked c = check(find_cell<float>(name), x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths);
          return with_dtype(c.is_float32, [&](auto zero) {
            using T = decltype(zero);
            const CellKernels<T>& cell = find_cell<T>(name);
            const ForwardPass<T> pass(cell, std::move(c), reverse, save);
            run([&](Team& team) { cell.forward(&pass.call, 1, false, team); });
            return pass.result();
          });
        });
  m.def("check_backward",
        [](const std::string& name, const Array& x, const Array& h0, const Array& w_hh,
           const py::object& dy, const py::object& dh_n, const py::object& dc_n) {
          const Incoming incoming = check_incoming(find_cell<float>(name), x.shape(0), h0.shape(0),
                                                   h0.shape(1), w_hh, dy, dh_n, dc_n);
          return py::make_tuple(incoming.dy, incoming.dh_n, incoming.dc_n);
        });
  m.def("backward",
        [](const std::string& name, const py::tuple& inputs, const py::tuple& saved, bool reverse,
           const py::object& dy, const py::object& dh_n, const py::object& dc_n) {
          const CellKernels<float>& cell = find_cell<float>(name);
          Checked c = check_tuple(cell, inputs);
          Incoming incoming =
              check_incoming(cell, c.shape.T, c.shape.B, c.shape.H, c.w_hh, dy, dh_n, dc_n);
          return with_dtype(c.is_float32, [&](auto zero) {
            using T = decltype(zero);
            const CellKernels<T>& kernels = find_cell<T>(name);
            const BackwardPass<T> pass(kernels, std::move(c), saved, reverse, std::move(incoming));
            run([&](Team& team) { kernels.backward(&pass.call, 1, false, team); });
            return pass.result();
          });
        });
  m.def("forward_side_by_side", &forward_side_by_side);
  m.def("backward_side_by_side", &backward_side_by_side);
}

}  // namespace pyrnn
