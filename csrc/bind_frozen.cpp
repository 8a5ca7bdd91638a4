// Frozen layers and their streams for Python, and the capsule through which pyrnn._stream steps.
#include <algorithm>

#include "bind_inputs.hpp"
#include "bind_variant.hpp"
#include "bindings.hpp"
#include "frozen.hpp"

namespace pyrnn {
namespace {

template <class T>
constexpr const char* dtype_of = sizeof(T) == sizeof(float) ? "float32" : "float64";

// Null for T's own.
template <class T>
const Precision* find_precision(const CellKernels<T>& cell, const std::string& name) {
  if (name == dtype_of<T>) return nullptr;
  for (const Precision* p : isa().precisions) {
    if (cell.reduced != nullptr && name == p->name) return p;
  }
  throw py::value_error(text("precision: no kernels for '", name, "'"));
}

template <class T>
void check_float_of(const char* name, const Array& array) {
  if (!is_float(array) || array.itemsize() != sizeof(T)) {
    throw py::type_error(
        text(name, ": expected ", dtype_text(py::array_t<T>()), ", got ", dtype_text(array)));
  }
}

// Parameters of one part: of T, native and contiguous, as pyrnn.frozen hands them over.
template <class T>
using Given = std::tuple<py::array_t<T>, py::array_t<T>, std::optional<py::array_t<T>>,
                         std::optional<py::array_t<T>>, py::object>;

template <class T>
std::shared_ptr<Frozen<T>> freeze(const std::string& cell_name, const std::string& precision_name,
                                  Index input_size, Index hidden_size, Index columns,
                                  int directions, const std::vector<Given<T>>& given) {
  const CellKernels<T>& cell = find_cell<T>(cell_name);
  const Precision* const precision = find_precision(cell, precision_name);
  const Index I = input_size, H = hidden_size, P = columns, rows = cell.gates * H;
  std::vector<Part<T>> parts;
  std::vector<CheckedVariant> variants;  // keep their arrays until they are packed
  for (const auto& [w_ih, w_hh, b_ih, b_hh, variant] : given) {
    const Index width = static_cast<int>(parts.size()) < directions ? I : directions * P;
    check_shape("w_ih", w_ih, {{"G·H", rows}, {"I", width}});
    check_shape("w_hh", w_hh, {{"G·H", rows}, {"P", P}});
    if (b_ih) check_shape("b_ih", *b_ih, {{"G·H", rows}});
    if (b_hh) check_shape("b_hh", *b_hh, {{"G·H", rows}});
    variants.push_back(check_variant(find_cell<float>(cell_name), variant, H, w_ih));
    if (variants.back().projected(H) != P) throw py::value_error("w_hr: not of the layer's P");
    parts.push_back(
        {width,
         H,
         P,
         {w_ih.data(), w_hh.data(), b_ih ? b_ih->data() : nullptr, b_hh ? b_hh->data() : nullptr},
         variant_of<T>(variants.back()),
         precision});
  }
  const Index largest = std::max({I, H, directions * P});
  if (precision != nullptr && largest > precision->max_depth) {
    throw py::value_error(text("precision: ", precision_name, " takes sizes of at most ",
                               precision->max_depth, ", got ", largest));
  }
  return std::make_shared<Frozen<T>>(cell, precision, I, H, P, directions, parts);
}

template <class T>
py::tuple unpack(const Frozen<T>& frozen, int k) {
  const Index I = frozen.width(k), H = frozen.hidden_size, rows = frozen.cell.gates * H;
  using Sizes = std::vector<Index>;
  py::array_t<T> w_ih(Sizes{rows, I}), w_hh(Sizes{rows, frozen.columns}), b_ih(Sizes{rows}),
      b_hh(Sizes{rows});
  frozen.kernels.unpack(
      frozen.packed(k), frozen.part(k),
      {w_ih.mutable_data(), w_hh.mutable_data(), b_ih.mutable_data(), b_hh.mutable_data()});
  return py::make_tuple(w_ih, w_hh, b_ih, b_hh);
}

// A call of part k on [T, B, ..], but for the arrays it reads and writes.
template <class T>
Forward<T> call_of(const Frozen<T>& frozen, int k, Index seq_len, Index batch_size) {
  Forward<T> call{};
  call.in.shape = {seq_len, batch_size, frozen.width(k), frozen.hidden_size};
  call.in.reverse = k % frozen.directions == 1;
  call.in.P = frozen.columns;
  call.in.variant = frozen.variant(k);
  call.packed = frozen.packed(k);
  call.precision = frozen.precision;
  return call;
}

// Refuses sizes whose bytes cannot be addressed.
template <class T>
void check_sizes(const Frozen<T>& frozen, int k, Index seq_len, Index batch_size) {
  checked_size("x", {seq_len, batch_size, frozen.width(k)}, sizeof(T));
  checked_size("the gates (T, B, C·H)",
               {seq_len, batch_size, frozen.cell.columns, frozen.hidden_size}, sizeof(T));
}

// Parts k and on, one for each of `states`, (h0,) or (h0, c0) of [B, H]: both directions of a layer on x
// [T, B, I] or tokens [T, B], or in one direction layers above each other. All are of the frozen layer's
// dtype.
template <class T>
py::list forward(const Frozen<T>& frozen, int k, const Array& x_,
                 const std::vector<std::vector<Array>>& states, const py::object& lengths_) {
  const bool tokens = is_integer(x_);
  const int count = static_cast<int>(states.size());
  const bool chained = frozen.directions == 1;
  const std::size_t of_each = frozen.cell.has_c ? 2 : 1;
  if (k < 0 || count < 1 || k + count > frozen.parts() || (!chained && count > 2)) {
    throw py::value_error("k: no such parts");
  }
  if (tokens) {
    check_shape("x", x_, {{"T"}, {"B"}});
  } else {
    check_shape("x", x_, {{"T"}, {"B"}, {"I", frozen.width(k)}});
    check_float_of<T>("x", x_);
  }
  const Index seq_len = x_.shape(0), B = x_.shape(1), H = frozen.hidden_size, P = frozen.columns;
  for (const std::vector<Array>& state : states) {
    if (state.size() != of_each) throw py::value_error("states: not of this cell");
    for (std::size_t i = 0; i < of_each; ++i) {
      const char* const name = i == 0 ? "h0" : "c0";
      check_shape(name, state[i],
                  {{"B", B}, i == 0 && P != H ? Axis{"P", P} : Axis{"H", i == 0 ? P : H}});
      check_float_of<T>(name, state[i]);
    }
  }
  check_sizes(frozen, k, seq_len, B);
  Maybe lengths;
  std::vector<Index> order;
  if (!lengths_.is_none()) {
    lengths = check_lengths(lengths_, seq_len, B);
    order = by_falling_length(*lengths);
  }
  const Array x = tokens ? check_tokens(x_, seq_len, B, frozen.width(k), lengths) : native(x_);

  std::vector<Forward<T>> calls(states.size());
  std::vector<Array> kept;  // native states
  py::list results;
  for (int i = 0; i < count; ++i) {
    Forward<T>& call = calls[static_cast<std::size_t>(i)];
    call = call_of(frozen, k + i, seq_len, B);
    const auto state = [&](std::size_t which) {
      kept.push_back(native(states[static_cast<std::size_t>(i)][which]));
      return static_cast<const T*>(kept.back().data());
    };
    const bool above = chained && i > 0;
    py::array_t<T> y = new_array<T>({seq_len, B, P}), h_n = new_array<T>({B, P});
    py::object c_n = py::none();
    call.in.x = above    ? calls[static_cast<std::size_t>(i) - 1].y
                : tokens ? nullptr
                         : static_cast<const T*>(x.data());
    call.in.tokens = tokens && !above ? static_cast<const std::int64_t*>(x.data()) : nullptr;
    call.in.h0 = state(0);
    call.in.lengths = data<std::int64_t>(lengths);
    call.in.order = lengths ? order.data() : nullptr;
    call.y = y.mutable_data();
    call.h_n = h_n.mutable_data();
    if (frozen.cell.has_c) {
      py::array_t<T> c = new_array<T>({B, H});
      call.in.c0 = state(1);
      call.c_n = c.mutable_data();
      c_n = c;
    }
    results.append(py::make_tuple(y, h_n, c_n));
  }
  run([&](Team& team) { frozen.kernels.forward(calls.data(), count, chained, team); });
  return results;
}

// A plain array of T of so many dimensions, as the kernels read it.
template <class T>
bool is_plain(const py::handle& object, Index ndim) {
  using Typed = py::array_t<T, py::array::c_style>;
  if (Py_TYPE(object.ptr()) != py::detail::npy_api::get().PyArray_Type_ || !Typed::check_(object)) {
    return false;
  }
  const auto array = py::reinterpret_borrow<py::array>(object);
  return array.ndim() == ndim && (array.flags() & py::detail::npy_api::NPY_ARRAY_ALIGNED_) != 0;
}

// Rows of all layers in a call that is short beside what goes on around it in Python.
constexpr Index short_call = 4096;

// All layers of one direction on x [T, B, I] or tokens [T, B], from `state`: h [L, B, P], (h, c) or None for
// 0. Returns (y, state) as the frozen layer does, or None where the call is not short or an argument not
// plain: `forward`, and what stands before it, deals with those.
template <class T>
py::object infer(const Frozen<T>& frozen, const py::object& x_, const py::object& state) {
  const bool tokens = is_plain<std::int64_t>(x_, 2), has_c = frozen.cell.has_c;
  if (frozen.directions != 1 || !(tokens || is_plain<T>(x_, 3))) return py::none();
  const Array x = py::reinterpret_borrow<Array>(x_);
  const Index seq_len = x.shape(0), B = x.shape(1), I = frozen.width(0), L = frozen.parts();
  const Index H = frozen.hidden_size, P = frozen.columns, most = short_call / L;
  if ((!tokens && x.shape(2) != I) || seq_len > most || B > most || seq_len * B > most) {
    return py::none();
  }
  const T* given[2] = {};
  const auto take = [&](const py::handle& part, int which) {
    if (!is_plain<T>(part, 3)) return false;
    const auto array = py::reinterpret_borrow<Array>(part);
    given[which] = static_cast<const T*>(array.data());
    return array.shape(0) == L && array.shape(1) == B && array.shape(2) == (which == 0 ? P : H);
  };
  if (!state.is_none()) {
    if (has_c) {
      PyObject* const both = state.ptr();
      if (!PyTuple_CheckExact(both) || PyTuple_GET_SIZE(both) != 2 ||
          !take(PyTuple_GET_ITEM(both, 0), 0) || !take(PyTuple_GET_ITEM(both, 1), 1)) {
        return py::none();
      }
    } else if (!take(state, 0)) {
      return py::none();
    }
  }
  check_sizes(frozen, 0, seq_len, B);
  if (tokens) check_tokens(x, seq_len, B, I, std::nullopt);

  py::array_t<T> h_n = new_array<T>({L, B, P});
  py::object c_n = py::none();
  T* c_out = nullptr;
  if (has_c) {
    py::array_t<T> c = new_array<T>({L, B, H});
    c_out = c.mutable_data();
    c_n = std::move(c);
  }
  const std::vector<T> zeros(given[0] == nullptr ? static_cast<std::size_t>(B * std::max(H, P))
                                                 : 0);
  std::vector<Forward<T>> calls(static_cast<std::size_t>(L));
  std::vector<py::array_t<T>> ys;
  for (Index k = 0; k < L; ++k) {
    Forward<T>& call = calls[static_cast<std::size_t>(k)];
    call = call_of(frozen, static_cast<int>(k), seq_len, B);
    if (k > 0) {
      call.in.x = ys.back().data();
    } else if (tokens) {
      call.in.tokens = static_cast<const std::int64_t*>(x.data());
    } else {
      call.in.x = static_cast<const T*>(x.data());
    }
    const bool starts = given[0] != nullptr;
    call.in.h0 = starts ? given[0] + k * B * P : zeros.data();
    if (has_c) call.in.c0 = starts ? given[1] + k * B * H : zeros.data();
    ys.push_back(new_array<T>({seq_len, B, P}));
    call.y = ys.back().mutable_data();
    call.h_n = h_n.mutable_data() + k * B * P;
    if (has_c) call.c_n = c_out + k * B * H;
  }
  run([&](Team& team) { frozen.kernels.forward(calls.data(), static_cast<int>(L), true, team); });
  if (!has_c) return py::make_tuple(ys.back(), h_n);
  return py::make_tuple(ys.back(), py::make_tuple(h_n, c_n));
}

[[noreturn]] void throw_busy() {
  PyErr_SetString(PyExc_RuntimeError, "stream: another thread is using it");
  throw py::error_already_set();
}

template <class T>
py::tuple read_state(Stream<T>& stream) {
  const Frozen<T>& frozen = *stream.frozen;
  using Sizes = std::vector<Index>;
  py::array_t<T> h(Sizes{frozen.parts(), stream.batch_size, frozen.columns});
  std::optional<py::array_t<T>> c;
  if (frozen.cell.has_c) c.emplace(Sizes{frozen.parts(), stream.batch_size, frozen.hidden_size});
  if (!stream.read_state(h.mutable_data(), c ? c->mutable_data() : nullptr)) throw_busy();
  if (!c) return py::make_tuple(h);
  return py::make_tuple(h, *c);
}

// Arrays [L, B, H] of T, or None for 0.
template <class T>
void write_state(Stream<T>& stream, const Maybe& h_, const Maybe& c_) {
  const Frozen<T>& frozen = *stream.frozen;
  const auto check = [&](const Maybe& given, const Axis& columns) {
    if (!given) return;
    check_shape("state", *given, {{"L", frozen.parts()}, {"B", stream.batch_size}, columns});
    check_float_of<T>("state", *given);
  };
  check(h_, {frozen.columns == frozen.hidden_size ? "H" : "P", frozen.columns});
  check(c_, {"H", frozen.hidden_size});
  const Maybe h = h_ ? Maybe(native(*h_)) : std::nullopt;
  const Maybe c = c_ ? Maybe(native(*c_)) : std::nullopt;
  if (!stream.write_state(data<T>(h), data<T>(c))) throw_busy();
}

template <class T>
std::unique_ptr<Stream<T>> make_stream(const std::shared_ptr<Frozen<T>>& frozen, Index batch_size) {
  checked_size("batch_size", {frozen->parts(), batch_size, 4, frozen->hidden_size}, sizeof(T));
  return std::make_unique<Stream<T>>(frozen, batch_size, &interrupted);
}

template <class T>
void bind_dtype(py::module_& m, const std::string& dtype) {
  py::class_<Stream<T>>(m, ("Stream_" + dtype).c_str())
      .def("read_state", &read_state<T>)
      .def("write_state", &write_state<T>)
      .def("handle", [](Stream<T>& stream) {
        return py::capsule(static_cast<AnyStream*>(&stream), "pyrnn._core.stream");
      });
  py::class_<Frozen<T>, std::shared_ptr<Frozen<T>>>(m, ("Frozen_" + dtype).c_str())
      .def(py::init(&freeze<T>))
      .def("forward", &forward<T>)
      .def("infer", &infer<T>)
      .def("unpack", &unpack<T>)
      .def("stream", &make_stream<T>)
      .def_property_readonly("nbytes", &Frozen<T>::bytes);
}

// Every precision, and the dtype of x, states and results.
template <class T>
void list_precisions(py::dict& found) {
  found[dtype_of<T>] = dtype_of<T>;
  if (kernels().of<T>().cells[0].reduced == nullptr) return;
  for (const Precision* p : isa().precisions) found[p->name] = dtype_of<T>;
}

const StreamApi stream_api = {
    [](void* stream, const void* x, const std::int64_t* tokens, void* y) {
      return static_cast<AnyStream*>(stream)->step(x, tokens, y);
    },
    [](const void* stream) { return static_cast<const AnyStream*>(stream)->is_long(); },
};

}  // namespace

void bind_frozen(py::module_& m) {
  bind_dtype<float>(m, "float32");
  bind_dtype<double>(m, "float64");
  m.def("precisions", [] {
    py::dict found;
    list_precisions<float>(found);
    list_precisions<double>(found);
    return found;
  });
  m.attr("stream_api") = py::capsule(&stream_api, "pyrnn._core.stream_api");
}

}  // namespace pyrnn
