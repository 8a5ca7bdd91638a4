// forward and backward of a cell, one pass or several side by side, without the GIL.
#include "bind_passes.hpp"
#include "bindings.hpp"
#include "kept.hpp"

namespace pyrnn {
namespace {

py::tuple forward(const std::string& name, Checked c, bool reverse, bool save, const py::object& y,
                  KeptWeights* kept) {
  return with_dtype(c.is_float32, [&](auto zero) {
    using T = decltype(zero);
    const CellKernels<T>& cell = find_cell<T>(name);
    ForwardPass<T> pass(cell, std::move(c), reverse, save, y);
    run([&](Team& team) { run_kept(cell, cell.forward, &pass.call, &kept, 1, false, team); });
    return pass.result();
  });
}

py::tuple backward(const std::string& name, Checked c, const py::tuple& saved, bool reverse,
                   const py::object& dy, const py::object& dh_n, const py::object& dc_n,
                   const py::object& dcells, const py::object& into, KeptWeights* kept) {
  Incoming incoming = check_incoming(find_cell<float>(name), c.shape.T, c.shape.B, c.shape.H, c.P,
                                     c.w_hh, dy, dh_n, dc_n, dcells);
  return with_dtype(c.is_float32, [&](auto zero) {
    using T = decltype(zero);
    const CellKernels<T>& cell = find_cell<T>(name);
    BackwardPass<T> pass(cell, std::move(c), saved, reverse, std::move(incoming), into);
    run([&](Team& team) { run_kept(cell, cell.backward, &pass.call, &kept, 1, false, team); });
    return pass.result();
  });
}

// Of what may be None, about which a cast asks every other module first.
KeptWeights* kept_of(const py::object& given) {
  return given.is_none() ? nullptr : given.cast<KeptWeights*>();
}

// Runs passes side by side; their results, in order.
template <class Pass, class Cell, class Kernel>
py::list run_passes(const Cell& cell, Kernel kernel, const std::vector<Pass>& passes,
                    const std::vector<KeptWeights*>& kept, bool chained) {
  std::vector<decltype(Pass::call)> calls;
  for (const Pass& pass : passes) calls.push_back(pass.call);
  const int count = static_cast<int>(calls.size());
  run([&](Team& team) { run_kept(cell, kernel, calls.data(), kept.data(), count, chained, team); });
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
    if (arguments[k].size() != 10) throw py::value_error("expected 10 arguments of a pass");
    return check(cell, x, argument(k, 1), argument(k, 2), argument(k, 3), argument(k, 4),
                 argument(k, 5), argument(k, 6), lengths, argument(k, 7));
  };
  if (arguments.empty()) return py::list();
  Checked first = checked(0, argument(0, 0));
  return with_dtype(first.is_float32, [&](auto zero) {
    using T = decltype(zero);
    const CellKernels<T>& kernels = find_cell<T>(name);
    std::vector<ForwardPass<T>> passes;
    std::vector<KeptWeights*> kept;
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
      passes.emplace_back(kernels, std::move(c), argument(k, 8).template cast<bool>(), save);
      kept.push_back(kept_of(argument(k, 9)));
    }
    return run_passes(kernels, kernels.forward, passes, kept, chained);
  });
}

// Chained: the dy of each pass but the first is the dx of the one before.
py::list backward_side_by_side(const std::string& name, const std::vector<py::tuple>& arguments,
                               bool chained) {
  const CellKernels<float>& cell = find_cell<float>(name);
  const auto argument = [&](std::size_t k, std::size_t i) { return py::object(arguments[k][i]); };
  const auto checked = [&](std::size_t k) {
    if (arguments[k].size() != 8) throw py::value_error("expected 8 arguments of a pass");
    return check_tuple(cell, arguments[k][0]);
  };
  if (arguments.empty()) return py::list();
  Checked first = checked(0);
  return with_dtype(first.is_float32, [&](auto zero) {
    using T = decltype(zero);
    const CellKernels<T>& kernels = find_cell<T>(name);
    std::vector<BackwardPass<T>> passes;
    std::vector<KeptWeights*> kept;
    passes.reserve(arguments.size());
    for (std::size_t k = 0; k < arguments.size(); ++k) {
      Checked c = k == 0 ? std::move(first) : checked(k);
      if (c.is_float32 != (sizeof(T) == sizeof(float))) {
        throw py::type_error("tape: expected one dtype in all passes");
      }
      const py::object dy = k > 0 && chained ? py::cast(passes[k - 1].out.dx) : argument(k, 3);
      Incoming incoming = check_incoming(cell, c.shape.T, c.shape.B, c.shape.H, c.P, c.w_hh, dy,
                                         argument(k, 4), argument(k, 5), argument(k, 6));
      passes.emplace_back(kernels, std::move(c), argument(k, 1),
                          argument(k, 2).template cast<bool>(), std::move(incoming));
      kept.push_back(kept_of(argument(k, 7)));
    }
    return run_passes(kernels, kernels.backward, passes, kept, chained);
  });
}

// x [T, B, columns] times the mask of dropout between layers.
Array drop(const py::object& x_, const KeyWords& key, double probability) {
  const Array x = as_array("x", x_);
  check_float("x", x, "x", x);
  check_shape("x", x, {{"T"}, {"B"}, {"columns"}});
  return with_dtype(x.itemsize() == 4, [&](auto zero) -> Array {
    using T = decltype(zero);
    const Array from = native(x);
    py::array_t<T> y = new_array<T>(shape_of(x));
    const Dropout<T> call{
        x.shape(0),       x.shape(1),       x.shape(2), static_cast<const T*>(from.data()),
        y.mutable_data(), mask_key_of(key), probability};
    {
      const py::gil_scoped_release without_gil;
      kernels().of<T>().drop(call);
    }
    return y;
  });
}

}  // namespace

void bind_cells(py::module_& m) {
  using Object = const py::object&;
  py::class_<KeptWeights>(m, "KeptWeights")
      .def(py::init<>())
      .def_property_readonly("packs", [](const KeptWeights& kept) {
        return py::make_tuple(kept.forward.packs(), kept.backward.packs());
      });
  m.def("check_forward", [](const std::string& name, Object x, Object h0, Object c0, Object w_ih,
                            Object w_hh, Object b_ih, Object b_hh, Object lengths, Object variant) {
    const Checked c =
        check(find_cell<float>(name), x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths, variant);
    return py::make_tuple(c.x, c.h0, c.c0, c.w_ih, c.w_hh, c.b_ih, c.b_hh, c.lengths);
  });
  m.def("forward", [](const std::string& name, Object x, Object h0, Object c0, Object w_ih,
                      Object w_hh, Object b_ih, Object b_hh, Object lengths, Object variant,
                      bool reverse, bool save, Object kept) {
    Checked c = check(find_cell<float>(name), x, h0, c0, w_ih, w_hh, b_ih, b_hh, lengths, variant);
    return forward(name, std::move(c), reverse, save, py::none(), kept_of(kept));
  });
  m.def("check_lengths", [](Object lengths, Index seq_len, Index batch_size) -> Maybe {
    if (lengths.is_none()) return std::nullopt;
    return check_lengths(lengths, seq_len, batch_size, whole);
  });
  m.def("check_backward",
        [](const std::string& name, const Array& x, const Array& h0, const Array& w_hh, Object dy,
           Object dh_n, Object dc_n, Object dcells) {
          const CellKernels<float>& cell = find_cell<float>(name);
          const Incoming incoming =
              check_incoming(cell, x.shape(0), h0.shape(0), w_hh.shape(0) / cell.gates, h0.shape(1),
                             w_hh, dy, dh_n, dc_n, dcells);
          return py::make_tuple(incoming.dy, incoming.dh_n, incoming.dc_n, incoming.dcells);
        });
  m.def("backward",
        [](const std::string& name, const py::tuple& inputs, const py::tuple& saved, bool reverse,
           Object dy, Object dh_n, Object dc_n, Object dcells, Object kept) {
          return backward(name, check_tuple(find_cell<float>(name), inputs), saved, reverse, dy,
                          dh_n, dc_n, dcells, py::none(), kept_of(kept));
        });
  // Steps [start, start + T) of sequences of the given lengths; y and gradients go where they belong in
  // the arrays of the whole pass.
  m.def("forward_chunk", [](const std::string& name, const py::tuple& inputs, bool reverse,
                            bool save, Index start, Object y, Object kept) {
    const Checked c = check_tuple(find_cell<float>(name), inputs, check_start(start));
    return forward(name, c, reverse, save, y, kept_of(kept));
  });
  m.def("backward_chunk",
        [](const std::string& name, const py::tuple& inputs, const py::tuple& saved, bool reverse,
           Object dy, Object dh_n, Object dc_n, Object dcells, Index start, const py::tuple& into) {
          const Checked c = check_tuple(find_cell<float>(name), inputs, check_start(start));
          return backward(name, c, saved, reverse, dy, dh_n, dc_n, dcells, into, nullptr);
        });
  m.def("drop", &drop);
  m.def("forward_side_by_side", &forward_side_by_side);
  m.def("backward_side_by_side", &backward_side_by_side);
}

}  // namespace pyrnn
