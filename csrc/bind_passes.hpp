// One forward or backward pass: its arguments checked, what it writes allocated, the call for the kernels.
#pragma once

#include <utility>

#include "bind_inputs.hpp"
#include "bind_variant.hpp"

namespace pyrnn {

// The arguments of a forward pass, checked and native.
struct Checked {
  Shape shape;
  bool is_float32;
  Array x, h0;
  Maybe c0;
  Array w_ih, w_hh;
  Maybe b_ih, b_hh, lengths;
  std::vector<Index> order;  // rows by falling length; empty without lengths
  CheckedVariant variant;
  Index P;           // columns of h
  Index first_step;  // of the whole pass
};

inline std::string gate_rows(int gates) { return gates == 1 ? "H" : std::to_string(gates) + "·H"; }

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

// w_ih says what G*H and I are, x what T and B are; all else must agree.
inline Checked check(const CellKernels<float>& cell, const py::object& x_, const py::object& h0_,
                     const py::object& c0_, const py::object& w_ih_, const py::object& w_hh_,
                     const py::object& b_ih_, const py::object& b_hh_, const py::object& lengths_,
                     const py::object& variant_, Index start = whole) {
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
  CheckedVariant variant = check_variant(cell, variant_, H, w_ih);
  const Index P = variant.projected(H);
  const char* const columns = variant.has(w_hr) ? "P" : "H";
  check_shape("h0", h0, {{"B", B}, {columns, P}});
  if (c0) check_shape("c0", *c0, {{"B", B}, {"H", H}});
  check_shape("w_hh", w_hh, {{rows, GH}, {columns, P}});
  if (b_ih) check_shape("b_ih", *b_ih, {{rows, GH}});
  if (b_hh) check_shape("b_hh", *b_hh, {{rows, GH}});
  checked_size("x", {T, B, I}, w_ih.itemsize());
  checked_size("the gates (T, B, C·H)", {T, B, cell.columns, H}, w_ih.itemsize());

  const auto native_or_none = [](const Maybe& array) {
    return array ? Maybe(native(*array)) : std::nullopt;
  };
  Maybe lengths;
  std::vector<Index> order;
  if (!lengths_.is_none()) {
    lengths = check_lengths(lengths_, T, B, start);
    // A chunk has the order of the whole pass: the sums of its gradients are then the same chains.
    order = by_falling_length(*lengths);
    if (start != whole) lengths = lengths_of_chunk(*lengths, T, start);
  }
  // Made whole: an array made without arguments is one of NumPy's too.
  return {{T, B, I, H},
          w_ih.itemsize() == 4,
          tokens ? check_tokens(x, T, B, I, lengths) : native(x),
          native(h0),
          native_or_none(c0),
          native(w_ih),
          native(w_hh),
          native_or_none(b_ih),
          native_or_none(b_hh),
          std::move(lengths),
          std::move(order),
          std::move(variant),
          P,
          start == whole ? 0 : start};
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
  in.P = c.P;
  in.first_step = c.first_step;
  in.variant = variant_of<T>(c.variant);
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
  check_exact_shape(name, array, shape);
  if (!py::isinstance<py::array_t<T, py::array::c_style>>(array) || !array.writeable()) {
    throw py::value_error(text(name, ": expected a writable, contiguous array of ",
                               dtype_text(py::array_t<T>(0)), ", got ", dtype_text(array)));
  }
  return py::reinterpret_borrow<py::array_t<T>>(array);
}

// One forward pass: its arguments, what it writes, and the call for the kernels.
template <class T>
struct ForwardPass {
  using Out = std::optional<py::array_t<T>>;

  // Into `y_`, or a new array where that is None.
  ForwardPass(const CellKernels<T>& cell, Checked checked, bool reverse, bool save,
              const py::object& y_ = py::none())
      : c(std::move(checked)),
        y(y_.is_none() ? new_array<T>({c.shape.T, c.shape.B, c.P})
                       : check_out<T>("y", y_, {c.shape.T, c.shape.B, c.P})),
        h_n(new_array<T>({c.shape.B, c.P})) {
    // Names of their own: in C++17 a lambda does not capture a structured binding.
    const Index seq_len = c.shape.T, batch_size = c.shape.B, hidden_size = c.shape.H;
    if (cell.has_c) c_n = new_array<T>({batch_size, hidden_size});
    if (save) {
      const auto taped = [&](Index columns) {
        return new_array<T>({seq_len, batch_size, columns});
      };
      gates = taped(cell.columns * hidden_size);
      if (c.variant.tapes_h(cell)) tape_h = taped(c.P);
      if (cell.has_c) tape_c = taped(hidden_size);
      if (c.variant.has(ln_ih_weight)) {
        norm_ih = taped(cell.gates * hidden_size), norm_hh = taped(cell.gates * hidden_size);
        rstd = taped(2);
      }
    }
    call.in = inputs_of<T>(c, reverse);
    call.tape = {pointer(gates),   pointer(tape_h),  pointer(tape_c),
                 pointer(norm_ih), pointer(norm_hh), pointer(rstd)};
    call.save = save;
    call.y = y.mutable_data();
    call.h_n = h_n.mutable_data();
    call.c_n = pointer(c_n);
  }

  [[nodiscard]] py::tuple result() const {
    py::object inputs = py::none(), saved = py::none();
    if (call.save) {
      inputs = py::make_tuple(c.x, c.h0, c.c0, c.w_ih, c.w_hh, c.b_ih, c.b_hh, c.lengths);
      for (const Out* stored : {&gates, &tape_h, &tape_c, &norm_ih, &norm_hh, &rstd}) {
        if (*stored) make_read_only(**stored);
      }
      saved = py::make_tuple(gates, tape_h, tape_c, norm_ih, norm_hh, rstd);
    }
    return py::make_tuple(y, h_n, c_n, inputs, saved);
  }

  Checked c;
  py::array_t<T> y, h_n;
  Out c_n, gates, tape_h, tape_c, norm_ih, norm_hh, rstd;
  Forward<T> call{};
};

// Gradients that come in: checked against the shape of the pass.
struct Incoming {
  Maybe dy, dh_n, dc_n, dcells;
};

inline Incoming check_incoming(const CellKernels<float>& cell, Index T, Index B, Index H, Index P,
                               const Array& like, const py::object& dy_, const py::object& dh_n_,
                               const py::object& dc_n_, const py::object& dcells_ = py::none()) {
  const auto one = [&](const char* name, const py::object& object,
                       std::initializer_list<Axis> axes) -> Maybe {
    const Maybe array = optional_array(name, object);
    if (!array) return std::nullopt;
    check_float(name, *array, "the tape", like);
    check_shape(name, *array, axes);
    return native(*array);
  };
  const Axis columns{P == H ? "H" : "P", P};
  Incoming incoming;
  incoming.dy = one("dy", dy_, {{"T", T}, {"B", B}, columns});
  incoming.dh_n = one("dh_n", dh_n_, {{"B", B}, columns});
  if (cell.has_c) {
    incoming.dc_n = one("dc_n", dc_n_, {{"B", B}, {"H", H}});
    incoming.dcells = one("dcells", dcells_, {{"T", T}, {"B", B}, {"H", H}});
  }
  return incoming;
}

inline Array check_saved(const char* name, const py::object& object, const Array& like,
                         const std::vector<Index>& shape) {
  const Array array = check_float(name, as_array(name, object), "the tape", like);
  check_exact_shape(name, array, shape);
  return native(array);
}

inline std::vector<Index> shape_of(const Array& array) {
  return {array.shape(), array.shape() + array.ndim()};
}

// What backward writes: new arrays, or those of a longer pass.
template <class T>
struct Outgoing {
  std::optional<py::array_t<T>> dx;
  py::array_t<T> dw_ih, dw_hh;
  std::optional<py::array_t<T>> db_ih, db_hh;
  std::array<std::optional<py::array_t<T>>, variant_arrays> dvariant;
  bool accumulate;
};

template <class T>
Outgoing<T> new_outgoing(const CellKernels<T>& cell, const Checked& c) {
  const Index rows = cell.gates * c.shape.H;
  Outgoing<T> out{{},   new_array<T>({rows, c.shape.I}), new_array<T>({rows, c.P}), {}, {}, {},
                  false};
  if (!is_integer(c.x)) out.dx = new_array<T>({c.shape.T, c.shape.B, c.shape.I});
  if (c.b_ih) out.db_ih = new_array<T>({rows});
  if (c.b_hh) out.db_hh = new_array<T>({rows});
  for (std::size_t i = 0; i < variant_arrays; ++i) {
    if (const Maybe& array = c.variant.arrays[i]) out.dvariant[i] = new_array<T>(shape_of(*array));
  }
  return out;
}

// (dx, dw_ih, dw_hh, db_ih, db_hh, and those of the variant's arrays): dx is written, the others are added to.
template <class T>
Outgoing<T> check_outgoing(const CellKernels<T>& cell, const Checked& c, const py::tuple& given) {
  if (given.size() != 5 + variant_arrays) throw py::value_error("into: expected 13 arrays");
  const Index rows = cell.gates * c.shape.H;
  Outgoing<T> out{{},
                  check_out<T>("dw_ih", given[1], {rows, c.shape.I}),
                  check_out<T>("dw_hh", given[2], {rows, c.P}),
                  {},
                  {},
                  {},
                  true};
  if (!is_integer(c.x)) {
    out.dx = check_out<T>("dx", given[0], {c.shape.T, c.shape.B, c.shape.I});
  }
  if (c.b_ih) out.db_ih = check_out<T>("db_ih", given[3], {rows});
  if (c.b_hh) out.db_hh = check_out<T>("db_hh", given[4], {rows});
  for (std::size_t i = 0; i < variant_arrays; ++i) {
    if (const Maybe& array = c.variant.arrays[i]) {
      const std::string name = std::string("d") + variant_array_names[i];
      out.dvariant[i] = check_out<T>(name.c_str(), given[5 + i], shape_of(*array));
    }
  }
  return out;
}

// x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths, variant.
inline Checked check_tuple(const CellKernels<float>& cell, const py::tuple& in,
                           Index start = whole) {
  if (in.size() != 9) throw py::value_error("tape: expected the inputs of a forward pass");
  return check(cell, in[0], in[1], in[2], in[3], in[4], in[5], in[6], in[7], in[8], start);
}

inline Index check_start(Index start) {
  if (start < 0) throw py::value_error(text("start: expected at least 0, got ", start));
  return start;
}

// One backward pass, as ForwardPass.
template <class T>
struct BackwardPass {
  // Into the arrays of a longer pass, or new ones where `into` is None.
  BackwardPass(const CellKernels<T>& cell, Checked checked, const py::tuple& saved, bool reverse,
               Incoming given, const py::object& into = py::none())
      : c(std::move(checked)),
        incoming(std::move(given)),
        out(into.is_none() ? new_outgoing(cell, c)
                           : check_outgoing(cell, c, py::reinterpret_borrow<py::tuple>(into))),
        dh0(new_array<T>({c.shape.B, c.P})) {
    const Index seq_len = c.shape.T, batch_size = c.shape.B, hidden_size = c.shape.H;
    gates = check_saved("tape.gates", saved[0], c.w_hh,
                        {seq_len, batch_size, cell.columns * hidden_size});
    if (c.variant.tapes_h(cell)) {
      tape_h = check_saved("tape.h", saved[1], c.w_hh, {seq_len, batch_size, c.P});
    }
    if (cell.has_c) {
      tape_c = check_saved("tape.c", saved[2], c.w_hh, {seq_len, batch_size, hidden_size});
      dc0 = new_array<T>({batch_size, hidden_size});
    }
    if (c.variant.has(ln_ih_weight)) {
      const Index sums = cell.gates * hidden_size;
      norm_ih = check_saved("tape.norm_ih", saved[3], c.w_hh, {seq_len, batch_size, sums});
      norm_hh = check_saved("tape.norm_hh", saved[4], c.w_hh, {seq_len, batch_size, sums});
      rstd = check_saved("tape.rstd", saved[5], c.w_hh, {seq_len, batch_size, 2});
    }
    call.in = inputs_of<T>(c, reverse);
    call.tape = {data<T>(gates),   data<T>(tape_h),  data<T>(tape_c),
                 data<T>(norm_ih), data<T>(norm_hh), data<T>(rstd)};
    call.dy = data<T>(incoming.dy);
    call.dh_n = data<T>(incoming.dh_n);
    call.dc_n = data<T>(incoming.dc_n);
    call.dcells = data<T>(incoming.dcells);
    // Plain pointwise parts do not look for it.
    if (call.dcells != nullptr) call.in.variant.plain = false;
    call.dx = pointer(out.dx);
    call.dh0 = dh0.mutable_data();
    call.dc0 = pointer(dc0);
    call.dw_ih = out.dw_ih.mutable_data();
    call.dw_hh = out.dw_hh.mutable_data();
    call.db_ih = pointer(out.db_ih);
    call.db_hh = pointer(out.db_hh);
    const auto of_variant = [this](VariantArray which) { return pointer(out.dvariant[which]); };
    const bool full = call.in.variant.full_peephole != nullptr;
    (full ? call.dfull_peephole : call.dpeephole) = of_variant(w_peephole);
    call.dw_hr = of_variant(w_hr);
    call.dln_ih_weight = of_variant(ln_ih_weight), call.dln_ih_bias = of_variant(ln_ih_bias);
    call.dln_hh_weight = of_variant(ln_hh_weight), call.dln_hh_bias = of_variant(ln_hh_bias);
    call.dln_c_weight = of_variant(ln_c_weight), call.dln_c_bias = of_variant(ln_c_bias);
    call.accumulate = out.accumulate;
  }

  [[nodiscard]] py::tuple result() const {
    py::dict of_variant;
    for (std::size_t i = 0; i < variant_arrays; ++i) {
      if (!out.dvariant[i]) continue;
      of_variant[(std::string("d") + variant_array_names[i]).c_str()] = *out.dvariant[i];
    }
    return py::make_tuple(out.dx, dh0, dc0, out.dw_ih, out.dw_hh, out.db_ih, out.db_hh, of_variant);
  }

  Checked c;
  Incoming incoming;
  Maybe gates, tape_h, tape_c, norm_ih, norm_hh, rstd;
  Outgoing<T> out;
  py::array_t<T> dh0;
  std::optional<py::array_t<T>> dc0;
  Backward<T> call{};
};

}  // namespace pyrnn
