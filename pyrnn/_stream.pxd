# The streaming step for Cython; programs write `from pyrnn.stream cimport Stream`.
from libc.stdint cimport int64_t


cdef class Stream:
    cdef readonly object frozen
    cdef readonly Py_ssize_t batch_size
    cdef readonly Py_ssize_t input_size
    cdef readonly Py_ssize_t hidden_size
    cdef readonly Py_ssize_t columns  # of h: hidden_size without a projection
    cdef object _core  # owns what _handle points to
    cdef void* _handle
    cdef int _typenum
    cdef bint _is_long
    cdef object _older, _newer  # the last two arrays that were given out

    # x (batch_size, input_size) -> h (batch_size, columns), which may overlap x. Both are arrays of
    # the caller's, C-contiguous and of these sizes: nothing is checked but the dtype and the tokens. They
    # may be called without the GIL and take it only to raise.
    cdef int step_float32(self, const float* x, float* h) except -1 nogil
    cdef int step_float64(self, const double* x, double* h) except -1 nogil
    cdef int step_tokens_float32(self, const int64_t* tokens, float* h) except -1 nogil
    cdef int step_tokens_float64(self, const int64_t* tokens, double* h) except -1 nogil

    cdef int _run(self, const void* x, const int64_t* tokens, void* h, int typenum) except -1 nogil
    cdef int _raise(self, int status, const int64_t* tokens, int typenum) except -1
    cdef bint _is_plain(self, object x_t)
    cdef object _converted(self, object x_t)
    cdef object _new_out(self, bint single)
    cdef int _check_out(self, object out, bint single) except -1
