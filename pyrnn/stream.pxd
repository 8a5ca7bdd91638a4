# For Cython programs: `from pyrnn.stream cimport Stream`, then `stream.step_float32(x, h)` without the GIL.
from pyrnn._stream cimport Stream
