// The parts of the compiled module, and what they share.
#pragma once

#include <pybind11/pybind11.h>

namespace pyrnn {

void bind_cells(pybind11::module_& m);
void bind_frozen(pybind11::module_& m);
void bind_linear(pybind11::module_& m);
void bind_machine(pybind11::module_& m);
void bind_reduced(pybind11::module_& m);

// Whether a Python signal handler has raised: asked from a kernel, without the GIL.
bool interrupted();

}  // namespace pyrnn
