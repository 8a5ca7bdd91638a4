"""The one table of tolerances.

Relative means ``||got - want|| / ||want||`` (Euclidean, over the whole array), want being the
float64 reference on the same numbers.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

# Kernels, any instruction set, and the float32 reference.
RELATIVE = {"float32": 3e-5, "float64": 1e-11}

# Times as much where layer norm divides by a standard deviation, which may be small.
LAYER_NORM = 10

# Frozen weights of reduced precision: a bfloat16 is off by 2**-9 at most, an int8 by 1/254 of its
# row's largest, and so are activations; twice as much for what adds up over steps.
RELATIVE |= {"bfloat16": 4e-3, "int8": 1e-2}
# What they may cost a trained language model.
BITS_PER_CHARACTER = {"bfloat16": 0.01, "int8": 0.03}

# Central differences in float64 with this step: error O(step^2) + O(eps / step).
DIFFERENCE_STEP = 1e-5
DIFFERENCE_RELATIVE = 1e-7

# The same through a whole loss in float32, about 1: eps / step is 1e-5, and slopes are 0.01 to 1.
LOSS_DIFFERENCE_STEP = 1e-2
LOSS_DIFFERENCE = {"rel": 1e-2, "abs": 2e-4}

# exp, tanh and sigmoid, in units in the last place of the correctly rounded result.
VECMATH_ULP = {"float32": 3.0, "float64": 4.0}


def summation_error(terms: int) -> float:
    """Most that a float32 sum may be off, as a share of the sum of its terms' magnitudes.

    Each of ``terms`` roundings contributes half a unit in the last place, 2**-24 (Higham, Accuracy
    and Stability of Numerical Algorithms, 2002, section 3.1).
    """
    return terms * 2.0**-24


def relative_error(got: npt.NDArray[Any], want: npt.NDArray[Any]) -> float:
    """``||got - want|| / ||want||``; 0 where both are zero, inf for a value where 0 is due."""
    difference = float(np.linalg.norm((got - want).astype(np.float64).ravel()))
    size = float(np.linalg.norm(want.astype(np.float64).ravel()))
    if size == 0.0:
        return 0.0 if difference == 0.0 else float("inf")
    return difference / size


def assert_close(
    got: npt.NDArray[Any] | None,
    want: npt.NDArray[Any] | None,
    dtype: str,
    name: str = "array",
    tolerance: float | None = None,
) -> None:
    """``got`` has the dtype, and shape and values of ``want`` within the tolerance of the dtype."""
    assert (got is None) == (want is None), f"{name}: got {got!r}, want {want!r}"
    if got is None or want is None:
        return
    assert got.dtype == np.dtype(dtype), f"{name}: dtype {got.dtype}, want {dtype}"
    assert got.shape == want.shape, f"{name}: shape {got.shape}, want {want.shape}"
    assert np.isfinite(got).all() or not np.isfinite(want).all(), f"{name}: not finite"
    error = relative_error(got, want)
    limit = RELATIVE[dtype] if tolerance is None else tolerance
    assert error <= limit, f"{name}: relative error {error:.3g} > {limit:.3g}"


def assert_same_bits(
    got: npt.NDArray[Any] | None, want: npt.NDArray[Any] | None, name: str = "array"
) -> None:
    """Equal in dtype, shape and every bit."""
    assert (got is None) == (want is None), f"{name}: got {got!r}, want {want!r}"
    if got is None or want is None:
        return
    assert (got.dtype, got.shape) == (want.dtype, want.shape), f"{name}: {got.shape}"
    if got.tobytes() != want.tobytes():
        where = np.argwhere(~((got == want) | (np.isnan(got) & np.isnan(want))))
        first = tuple(int(k) for k in where[0]) if len(where) else "sign of zero"
        raise AssertionError(f"{name}: {len(where)} elements differ, first at {first}")
