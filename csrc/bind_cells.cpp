// forward and backward of a cell, one pass or several: checks, allocation, then the kernels without the GIL.
#include "bindings.hpp"
#include "passes.hpp"

namespace pyrnn {
namespace {

Checked check_tuple(const CellKernels<float>& cell, const py::tuple& in, Index start = whole) {
  if (in.size() != 8) throw py::value_error("tape: expected the inputs of a forward pass");
  return check(cell, in[0], in[1], in[2], in[3], in[4], in[5], in[6], in[7], start);
}

py::tuple forward(const std::string& name, Checked c, bool reverse, bool save,
                  const py::object& y) {
  return with_dtype(c.is_float32, [&](auto zero) {
    using T = decltype(zero);
    const CellKernels<T>& cell = find_cell<T>(name);
    const ForwardPass<T> pass(cell, std::move(c), reverse, save, y);
    run([&](Team& team) { cell.forward(&pass.call, 1, false, team); });
    return pass.result();
  });
}

py::tuple backward(const std::string& name, Checked c, const py::tuple& saved, bool reverse,
                   const py::object& dy, const py::object& dh_n, const py::object& dc_n,
                   const py::object& into) {
  Incoming incoming = check_incoming(find_cell<float>(name), c.shape.T, c.shape.B, c.shape.H,
                                     c.w_hh, dy, dh_n, dc_n);
  return with_dtype(c.is_float32, [&](auto zero) {
    using T = decltype(zero);
    const CellKernels<T>& cell = find_cell<T>(name);
    const BackwardPass<T> pass(cell, std::move(c), saved, reverse, std::move(incoming), into);
    run([&](Team& team) { cell.backward(&pass.call, 1, false, team); });
    return pass.result();
  });
}

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
      passes.emplace_back(kernels, std::move(c), argument(k, 7).template cast<bool>(), save,
                          py::none());
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
      const py::object dy = k > 0 && chained ? py::cast(passes[k - 1].out.dx) : argument(k, 3);
      Incoming incoming = check_incoming(cell, c.shape.T, c.shape.B, c.shape.H, c.w_hh, dy,
                                         argument(k, 4), argument(k, 5));
      passes.emplace_back(kernels, std::move(c), argument(k, 1),
                          argument(k, 2).template cast<bool>(), std::move(incoming), py::none());
    }
    return run_passes(kernels.backward, passes, chained);
  });
}

Index check_start(Index start) {
  if (start < 0) throw py::value_error(text("start: expected at least 0, got ", start));
  return start;
}

}  // namespace

void bind_cells(py::module_& m) {
  using Object = const py::object&;
  m.def("forward_side_by_side", &forward_side_by_side);
  m.def("backward_side_by_side", &backward_side_by_side);
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
    return forward(name, check_tuple(find_cell<float>(name), inputs, check_start(start)), reverse,
                   save, y);
  });
  m.def("backward_chunk",
        [](const std::string& name, const py::tuple& inputs, const py::tuple& saved, bool reverse,
           Object dy, Object dh_n, Object dc_n, Index start, const py::tuple& into) {
          return backward(name, check_tuple(find_cell<float>(name), inputs, check_start(start)),
                          saved, reverse, dy, dh_n, dc_n, into);
        });
}

}  // namespace pyrnn
