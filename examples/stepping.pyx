# cython: language_level=3, boundscheck=False, wraparound=False
"""Steps a stream from Cython, in a loop without the GIL.

    cython -I "$(python -c 'import pathlib, pyrnn; print(pathlib.Path(pyrnn.__file__).parents[1])')" stepping.pyx

and the C file that this writes compiles like that of any extension module.
"""

from pyrnn.stream cimport Stream


def run(Stream stream, const float[:, :, ::1] x, float[:, :, ::1] y):
    """Write h of each step of x (T, B, I) to y (T, B, H)."""
    cdef Py_ssize_t t
    if x.shape[1] != stream.batch_size or x.shape[2] != stream.input_size:
        raise ValueError("x: expected shape (T, B, I)")
    if y.shape[0] != x.shape[0] or y.shape[1] != x.shape[1] or y.shape[2] != stream.hidden_size:
        raise ValueError("y: expected shape (T, B, H)")
    with nogil:
        for t in range(x.shape[0]):
            stream.step_float32(&x[t, 0, 0], &y[t, 0, 0])
