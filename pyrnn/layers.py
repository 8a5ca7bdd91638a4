"""RNN, GRU and LSTM: what each adds to a stack of layers is its cell."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from . import ops
from .checks import checked_number
from .stack import Recurrent
from .tape import Array

__all__ = ["GRU", "LSTM", "RNN"]


class RNN(Recurrent[Array]):
    """Elman network: ``h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)``.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
        I, H and L, each at least 1.
    nonlinearity : {"tanh", "relu"}
        phi.
    bias : bool
        False: no ``bias_ih`` and ``bias_hh``.
    batch_first : bool
        x and y are (B, T, ...); states are not affected.
    dropout : float
        In ``forward`` alone, drop each output of every layer but the last with this probability
        and divide the others by its complement.
    bidirectional : bool
        Run a second set of cells from the last step to the first; S is 2.
    dtype : {"float32", "float64"}
        Of parameters, inputs and results.
    rng : None, int or numpy.random.Generator
        Source of the starting values and of dropout.
    init : {"uniform", "orthogonal"}
        All parameters uniform in ±1/sqrt(H), as in PyTorch; or each H-by-H block of ``weight_hh``
        a random orthogonal matrix and the rest uniform.

    Attributes
    ----------
    params : dict of str to ndarray
        ``weight_ih_l0`` (H, I), ``weight_hh_l0`` (H, H), ``bias_ih_l0`` and ``bias_hh_l0`` (H),
        then ``..._l0_reverse``, ``..._l1`` (whose I is S*H) and so on. An optimiser may update
        them in place; the next call uses the new values.

    Raises
    ------
    ValueError, TypeError
        An argument outside its range, or of another kind.

    Notes
    -----
    Elman, "Finding structure in time", Cognitive Science 14 (1990). Calls from several threads at
    once are safe as long as none changes ``params``.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> layer = pyrnn.RNN(3, 4, bidirectional=True, rng=0)
    >>> y, h = layer(np.zeros((5, 2, 3), "float32"))
    >>> y.shape, h.shape
    ((5, 2, 8), (2, 2, 4))
    """

    _cell = "RNN"
    _forward_op = staticmethod(ops.rnn_forward)
    _backward_op = staticmethod(ops.rnn_backward)
    _options = ("nonlinearity",)

    @property
    def _kernel(self) -> str:
        return f"rnn_{self.nonlinearity}"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: npt.DTypeLike = "float32",
        rng: int | np.random.Generator | None = None,
        init: str = "uniform",
    ) -> None:
        if nonlinearity not in ("tanh", "relu"):
            raise ValueError(f"nonlinearity: expected 'tanh' or 'relu', got {nonlinearity!r}")
        self.nonlinearity = nonlinearity
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            dtype, rng, init,
        )  # fmt: skip


class GRU(Recurrent[Array]):
    """Gated recurrent unit: ``h_t = (1 - z) * n + z * h_{t-1}``.

    ``r`` and ``z`` are ``sigmoid(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)``, and ``n`` is
    ``tanh(W_in x_t + b_in + r * (W_hn h_{t-1} + b_hn))``.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        As for :class:`RNN`.
    reset_after : bool
        False: ``n = tanh(W_in x_t + b_in + W_hn (r * h_{t-1}) + b_hn)``, as first published.
    dtype, rng, init
        As for :class:`RNN`.

    Attributes
    ----------
    params : dict of str to ndarray
        As for :class:`RNN`, with 3*H rows: gates r, z, n.

    Raises
    ------
    ValueError, TypeError
        An argument outside its range, or of another kind.

    See Also
    --------
    gru_exchange_update_gate : for parameters of the form ``(1 - z) * h_{t-1} + z * n``.

    Notes
    -----
    Cho et al., "Learning phrase representations using RNN encoder-decoder", EMNLP 2014; the
    ``reset_after`` form is that of PyTorch and cuDNN.

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> layer = pyrnn.GRU(3, 4, num_layers=2, batch_first=True, rng=0)
    >>> y, h = layer(np.zeros((2, 5, 3), "float32"), lengths=[5, 3])
    >>> y.shape, h.shape
    ((2, 5, 4), (2, 2, 4))
    """

    _cell = "GRU"
    _forward_op = staticmethod(ops.gru_forward)
    _backward_op = staticmethod(ops.gru_backward)
    _options = ("reset_after",)

    @property
    def _kernel(self) -> str:
        return "gru" if self.reset_after else "gru_reset_before"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset_after: bool = True,
        dtype: npt.DTypeLike = "float32",
        rng: int | np.random.Generator | None = None,
        init: str = "uniform",
    ) -> None:
        self.reset_after = bool(reset_after)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            dtype, rng, init,
        )  # fmt: skip


class LSTM(Recurrent[tuple[Array, Array]]):
    """Long short-term memory: ``c_t = f * c_{t-1} + i * g``, ``h_t = o * tanh(c_t)``.

    ``i, f, o`` are ``sigmoid`` and ``g`` is ``tanh`` of ``W_ih x_t + b_ih + W_hh h_{t-1} + b_hh``.
    The state is a tuple (h, c).

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        As for :class:`RNN`.
    proj_size : int
        0: projections of h are not offered.
    dtype, rng, init
        As for :class:`RNN`.
    forget_bias : float, optional
        What ``bias_ih + bias_hh`` of the forget gate starts at. 1 makes a new network remember
        (Jozefowicz, Zaremba & Sutskever, ICML 2015). None: drawn like all others.

    Attributes
    ----------
    params : dict of str to ndarray
        As for :class:`RNN`, with 4*H rows: gates i, f, g, o.

    Raises
    ------
    ValueError, TypeError
        An argument outside its range, or of another kind.
    NotImplementedError
        ``proj_size`` above 0.

    Notes
    -----
    Hochreiter & Schmidhuber, "Long short-term memory", Neural Computation 9 (1997), with the
    forget gate of Gers, Schmidhuber & Cummins (2000).

    Examples
    --------
    One step of training on the mean square of y:

    >>> import numpy as np, pyrnn
    >>> layer = pyrnn.LSTM(3, 4, rng=0, forget_bias=1.0)
    >>> optimiser = pyrnn.SGD(layer.params, lr=0.1)
    >>> y, (h, c), tape = layer.forward(np.ones((5, 2, 3), "float32"))
    >>> grads = layer.backward(tape, 2 * y / y.size)
    >>> optimiser.step(grads)
    """

    _cell = "LSTM"
    _states = ("h", "c")
    _forward_op = staticmethod(ops.lstm_forward)
    _backward_op = staticmethod(ops.lstm_backward)

    @property
    def _kernel(self) -> str:
        return "lstm"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        *,
        dtype: npt.DTypeLike = "float32",
        rng: int | np.random.Generator | None = None,
        init: str = "uniform",
        forget_bias: float | None = None,
    ) -> None:
        if proj_size != 0:
            raise NotImplementedError(f"proj_size: expected 0, got {proj_size!r}")
        if forget_bias is not None:
            forget_bias = checked_number("forget_bias", forget_bias, -np.inf)
            if not bias:
                raise ValueError("forget_bias: expected None with bias=False")
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            dtype, rng, init,
        )  # fmt: skip
        if forget_bias is not None:
            forget = slice(self.hidden_size, 2 * self.hidden_size)
            for _, _, bias_ih, bias_hh in self._names:
                self.params[bias_ih][forget] = forget_bias
                self.params[bias_hh][forget] = 0.0
