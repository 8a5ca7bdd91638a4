// The compiled module pyrnn._core: a map of its parts.
#include "bindings.hpp"

PYBIND11_MODULE(_core, m) {
  m.doc() = "Kernels of pyrnn; the Python side is pyrnn.ops.";
  pyrnn::bind_cells(m);
  pyrnn::bind_frozen(m);
  pyrnn::bind_linear(m);
  pyrnn::bind_machine(m);
  pyrnn::bind_reduced(m);
}
