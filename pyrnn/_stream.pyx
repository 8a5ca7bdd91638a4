# cython: language_level=3, boundscheck=False, wraparound=False
"""Streams: a frozen layer fed one time step at a time, where the overhead of a call is the cost."""

cimport cython
cimport numpy as cnp
from cpython.long cimport PyLong_AsLongLongAndOverflow, PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_Import
from libc.stdint cimport int64_t

import numpy as np

from .checks import checked_integer, shape_text, with_dtype

cnp.import_array()


cdef extern from "stream_api.hpp" namespace "pyrnn" nogil:
    enum class StreamStatus(int):
        done
        busy
        bad_token
        interrupted
        no_memory

    struct StreamApi:
        StreamStatus (*step)(void* stream, const void* x, const int64_t* tokens, void* y) noexcept nogil
        bint (*is_long)(const void* stream) noexcept nogil


cdef extern from *:
    """
    /* Whether nobody but its only owner can see an object, through a weak reference either. Without the GIL another
       thread may be about to. */
    static inline int pyrnn_is_forgotten(PyObject *object) {
    #ifdef Py_GIL_DISABLED
      return 0;
    #else
      const Py_ssize_t weak = Py_TYPE(object)->tp_weaklistoffset;
      return Py_REFCNT(object) == 1 && weak > 0 && *(PyObject **)((char *)object + weak) == NULL;
    #endif
    }
    """
    bint pyrnn_is_forgotten(PyObject* owned)


cdef inline bint has_shape(cnp.ndarray y, bint single, Py_ssize_t batch_size, Py_ssize_t columns):
    if single:
        return cnp.PyArray_NDIM(y) == 1 and cnp.PyArray_DIM(y, 0) == columns
    return (
        cnp.PyArray_NDIM(y) == 2
        and cnp.PyArray_DIM(y, 0) == batch_size
        and cnp.PyArray_DIM(y, 1) == columns
    )


cdef const StreamApi* api = <const StreamApi*>PyCapsule_Import("pyrnn._core.stream_api", 0)


cdef class Stream:
    """B sequences on a frozen layer, fed one time step at a time.

    Made by ``frozen.stream(batch_size)``; one frozen layer serves any number of streams. A stream
    belongs to one thread at a time: a second one that uses it at the same moment gets a
    ``RuntimeError`` and changes nothing. The steps give to the bit what the frozen layer gives for
    the whole sequence. They run on the kernels under every :func:`pyrnn.backend`.

    Attributes
    ----------
    frozen : Frozen
        The layer.
    batch_size, input_size, hidden_size, columns : int
        B, I, H and P: the columns of h, H without a projection.
    state : ndarray or tuple of two ndarrays
        A copy of the state: h (L, B, P), for the LSTM (h, c), c (L, B, H).

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> frozen = pyrnn.LSTM(3, 4, rng=0).freeze()
    >>> stream = frozen.stream()
    >>> x = np.ones((5, 3), "float32")
    >>> steps = [stream.step(x_t) for x_t in x]
    >>> y, (h, c) = frozen(x)
    >>> bool((steps == y).all()), bool((stream.state[0][:, 0] == h).all())
    (True, True)
    """

    def __cinit__(self, frozen, batch_size=1):
        self.frozen = frozen
        self.batch_size = checked_integer("batch_size", batch_size, 0)
        self.input_size = frozen.input_size
        self.hidden_size = frozen.hidden_size
        self.columns = frozen._columns
        self._core = frozen._new_stream(self.batch_size)
        self._handle = PyCapsule_GetPointer(self._core.handle(), "pyrnn._core.stream")
        self._typenum = cnp.NPY_FLOAT32 if frozen.dtype == np.float32 else cnp.NPY_FLOAT64
        self._is_long = api.is_long(self._handle)

    def step(self, x_t, out=None):
        """Take one time step.

        Parameters
        ----------
        x_t : array
            (B, I) of the layer's dtype, or integer tokens (B); for a batch of one also (I), or one
            token.
        out : ndarray, optional
            Where h goes: of its shape and the layer's dtype, C-contiguous and writable. It may
            share memory with ``x_t``.

        Returns
        -------
        ndarray
            ``out``, or a new array: h of the last layer, (B, H), or (H) for x_t without a batch.

        Raises
        ------
        ValueError
            A wrong shape, or an ``out`` that cannot be written.
        TypeError
            Another dtype than the layer's or integer tokens.
        IndexError
            A token outside 0..I-1.
        RuntimeError
            Another thread is using the stream.
        """
        cdef cnp.ndarray x, y
        cdef const int64_t* tokens = NULL
        cdef const void* data = NULL
        cdef int64_t token = 0
        cdef int overflow = 0
        cdef bint single
        if self._is_plain(x_t):
            x = <cnp.ndarray>x_t
            data = cnp.PyArray_DATA(x)
            single = cnp.PyArray_NDIM(x) == 1
        elif PyLong_CheckExact(x_t) and self.batch_size == 1:
            token = PyLong_AsLongLongAndOverflow(x_t, &overflow)
            if overflow:
                token = -1
            tokens = &token
            single = True
        else:
            x = self._converted(x_t)
            if cnp.PyArray_TYPE(x) == self._typenum:
                data = cnp.PyArray_DATA(x)
                single = cnp.PyArray_NDIM(x) == 1
            else:
                tokens = <const int64_t*>cnp.PyArray_DATA(x)
                single = cnp.PyArray_NDIM(x) == 0
        if out is None:
            y = <cnp.ndarray>self._new_out(single)
        else:
            self._check_out(out, single)
            y = <cnp.ndarray>out
        if self._is_long:
            with nogil:
                self._run(data, tokens, cnp.PyArray_DATA(y), self._typenum)
        else:
            self._run(data, tokens, cnp.PyArray_DATA(y), self._typenum)
        return y

    @property
    def state(self):
        parts = self._core.read_state()
        return parts[0] if len(parts) == 1 else parts

    def reset(self, state=None):
        """Set the state.

        Parameters
        ----------
        state : ndarray or tuple of two ndarrays, optional
            As :attr:`state` gives it; for a batch of one also without that axis. None stands for 0.

        Raises
        ------
        ValueError, TypeError
            A wrong shape or dtype.
        RuntimeError
            Another thread is using the stream.
        """
        self._core.write_state(*self.frozen._checked_state(state, self.batch_size))

    def __reduce__(self):
        return _restored, (self.frozen, self.batch_size, self.state)

    def __repr__(self):
        return f"{self.frozen!r}.stream({self.batch_size})"

    cdef int step_float32(self, const float* x, float* h) except -1 nogil:
        return self._run(x, NULL, h, cnp.NPY_FLOAT32)

    cdef int step_float64(self, const double* x, double* h) except -1 nogil:
        return self._run(x, NULL, h, cnp.NPY_FLOAT64)

    cdef int step_tokens_float32(self, const int64_t* tokens, float* h) except -1 nogil:
        return self._run(NULL, tokens, h, cnp.NPY_FLOAT32)

    cdef int step_tokens_float64(self, const int64_t* tokens, double* h) except -1 nogil:
        return self._run(NULL, tokens, h, cnp.NPY_FLOAT64)

    cdef int _run(self, const void* x, const int64_t* tokens, void* h, int typenum) except -1 nogil:
        cdef StreamStatus status
        if typenum == self._typenum:
            status = api.step(self._handle, x, tokens, h)
            if status == StreamStatus.done:
                return 0
        else:
            status = StreamStatus.done
        with gil:
            return self._raise(<int>status, tokens, typenum)

    cdef int _raise(self, int status, const int64_t* tokens, int typenum) except -1:
        if typenum != self._typenum:
            raise TypeError(f"stream: of {self.frozen.dtype}, stepped with another dtype")
        if status == <int>StreamStatus.busy:
            raise RuntimeError("stream: another thread is using it")
        if status == <int>StreamStatus.no_memory:
            raise MemoryError("stream: no memory for its threads")
        if status == <int>StreamStatus.bad_token:
            for i in range(self.batch_size):
                if not 0 <= tokens[i] < self.input_size:
                    raise IndexError(f"{self._token_range()}, got {tokens[i]}")
            raise IndexError(self._token_range())
        return -1  # the signal handler's exception is set

    def _token_range(self):
        return f"x_t: expected tokens in 0..I-1 = 0..{self.input_size - 1}"

    cdef bint _is_plain(self, object x_t):
        """Whether x_t needs neither a conversion nor a message."""
        cdef cnp.ndarray x
        if not cnp.PyArray_CheckExact(x_t):
            return False
        x = <cnp.ndarray>x_t
        if cnp.PyArray_TYPE(x) != self._typenum or not cnp.PyArray_ISCARRAY_RO(x):
            return False
        if cnp.PyArray_NDIM(x) == 1:
            return self.batch_size == 1 and cnp.PyArray_DIM(x, 0) == self.input_size
        return (
            cnp.PyArray_NDIM(x) == 2
            and cnp.PyArray_DIM(x, 0) == self.batch_size
            and cnp.PyArray_DIM(x, 1) == self.input_size
        )

    cdef object _converted(self, object x_t):
        """x_t in the stream's dtype, or tokens in int64: native and C-contiguous."""
        cdef Py_ssize_t batch_size = self.batch_size
        array = np.asarray(x_t)
        tokens = array.dtype.kind in "iu"
        if not tokens:
            array = with_dtype("x_t", array, self.frozen.dtype, " or integer tokens")
        shapes = [(batch_size,)] if tokens else [(batch_size, self.input_size)]
        if batch_size == 1:
            shapes.append(shapes[0][1:])
        if array.shape not in shapes:
            symbols = ["tokens of shape (B,)"] if tokens else ["shape (B, I)"]
            if batch_size == 1:
                symbols.append("or one token" if tokens else "or (I,)")
            wanted = " or ".join(shape_text(shape) for shape in shapes)
            raise ValueError(
                f"x_t: expected {' '.join(symbols)} = {wanted}, got {shape_text(array.shape)}"
            )
        if tokens:
            if array.dtype.itemsize == 8 and array.dtype.kind == "u" and (array >> 63).any():
                raise IndexError(f"{self._token_range()}, got {array.max()}")
            return np.array(array, dtype=np.int64, order="C")
        return np.array(array, dtype=self.frozen.dtype, order="C")

    cdef object _new_out(self, bint single):
        """An array for h: the older of the last two that were given out, if nobody has it any more.

        A loop has the newer one until it gets the next.
        """
        cdef cnp.npy_intp sizes[2]
        cdef cnp.ndarray y
        cdef bint again = pyrnn_is_forgotten(<PyObject*>self._older)
        if again:
            y = <cnp.ndarray>self._older
            # An array can be changed in place.
            again = (
                cnp.PyArray_TYPE(y) == self._typenum
                and cnp.PyArray_ISCARRAY(y)
                and cnp.PyArray_BASE(y) == NULL
                and has_shape(y, single, self.batch_size, self.columns)
            )
        if not again:
            sizes[0] = self.columns if single else self.batch_size
            sizes[1] = self.columns
            y = cnp.PyArray_SimpleNew(1 if single else 2, sizes, self._typenum)
        self._older = self._newer
        self._newer = y
        return y

    cdef int _check_out(self, object out, bint single) except -1:
        cdef cnp.ndarray y
        if not cnp.PyArray_Check(out):
            raise TypeError(f"out: expected a NumPy array, got {type(out).__name__}")
        y = <cnp.ndarray>out
        if cnp.PyArray_TYPE(y) != self._typenum:
            raise TypeError(f"out: expected {self.frozen.dtype.name}, got {out.dtype.name}")
        if not has_shape(y, single, self.batch_size, self.columns):
            of_h = "H" if self.columns == self.hidden_size else "P"
            symbols, sizes = (f"({of_h},)", (self.columns,))
            if not single:
                symbols, sizes = (f"(B, {of_h})", (self.batch_size, self.columns))
            raise ValueError(
                f"out: expected shape {symbols} = {shape_text(sizes)}, got {shape_text(out.shape)}"
            )
        if not cnp.PyArray_ISCARRAY(y):
            raise ValueError(
                "out: expected a C-contiguous, aligned, writable array in native byte order"
            )
        return 0


def _restored(frozen, batch_size, state):
    stream = Stream(frozen, batch_size)
    stream.reset(state)
    return stream
