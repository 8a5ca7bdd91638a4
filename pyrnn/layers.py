"""RNN, GRU and LSTM: what each adds to a stack of layers is its cell."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .checks import checked_integer, checked_number
from .stack import Recurrent
from .tape import Array

__all__ = ["GRU", "LSTM", "MGU", "RNN"]

Activation = str | tuple[Any, ...]


class RNN(Recurrent[Array]):
    """Elman network: ``h_t = phi(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)``.

    Parameters
    ----------
    input_size, hidden_size, num_layers : int
        I, H and L, each at least 1.
    nonlinearity : str or tuple
        phi: "tanh", "relu" or another name of ONNX's list, or (name, alpha, beta): affine,
        leaky_relu, thresholded_relu, scaled_tanh, hard_sigmoid, elu, softsign, softplus, sigmoid,
        identity.
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
    clip : float, optional
        Clamp every sum to ±clip ahead of its activation, as ONNX does.
    layer_norm : bool
        Normalise ``W_ih x`` and ``W_hh h`` over their rows, each with a gain and a bias of its own
        (Ba, Kiros & Hinton, arXiv:1607.06450).
    zoneout : float
        In ``forward``, keep each unit of the state before with this probability (in steps of
        2**-16); else blend the two states in that proportion (Krueger et al., ICLR 2017).
    recurrent_dropout : float
        In ``forward`` alone, drop units of ``h_{t-1}`` ahead of ``W_hh`` with this probability, the
        same ones at every step of a sequence (Gal & Ghahramani, NeurIPS 2016).

    Attributes
    ----------
    params : dict of str to ndarray
        ``weight_ih_l0`` (H, I), ``weight_hh_l0`` (H, H), ``bias_ih_l0`` and ``bias_hh_l0`` (H),
        then, with ``layer_norm``, ``ln_ih_weight_l0``, ``ln_ih_bias_l0``, ``ln_hh_weight_l0`` and
        ``ln_hh_bias_l0`` (H); then ``..._l0_reverse``, ``..._l1`` (whose I is S*H) and so on. An
        optimiser may update them in place; the next call uses the new values.

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

    _family = "rnn"
    _options = ("nonlinearity", "clip", "zoneout", "recurrent_dropout")

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: Activation = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        dtype: npt.DTypeLike = "float32",
        rng: int | np.random.Generator | None = None,
        init: str = "uniform",
        clip: float | None = None,
        layer_norm: bool = False,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        self.nonlinearity = nonlinearity
        self.clip, self.layer_norm = clip, bool(layer_norm)
        self.zoneout, self.recurrent_dropout = zoneout, recurrent_dropout
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
    dtype, rng, init, clip, layer_norm, zoneout, recurrent_dropout
        As for :class:`RNN`; ``layer_norm`` needs ``reset_after``.
    activation, gate_activation : str or tuple
        What n, and r and z, go through in place of tanh and the sigmoid; names as for :class:`RNN`.

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

    _family = "gru"
    _options = (
        "reset_after", "activation", "gate_activation", "clip", "zoneout", "recurrent_dropout",
    )  # fmt: skip

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
        activation: Activation = "tanh",
        gate_activation: Activation = "sigmoid",
        clip: float | None = None,
        layer_norm: bool = False,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        self.reset_after = bool(reset_after)
        self.activation, self.gate_activation = activation, gate_activation
        self.clip, self.layer_norm = clip, bool(layer_norm)
        self.zoneout, self.recurrent_dropout = zoneout, recurrent_dropout
        if self.layer_norm and not self.reset_after:
            raise ValueError(
                "layer_norm: expected False with reset_after=False, where W_hh has two products to "
                "normalise"
            )
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            dtype, rng, init,
        )  # fmt: skip


class MGU(Recurrent[Array]):
    """Minimal gated unit: ``h_t = (1 - f) * h_{t-1} + f * n``, a GRU with a single gate.

    ``f`` is ``sigmoid(W_if x_t + b_if + W_hf h_{t-1} + b_hf)``, and ``n`` is
    ``tanh(W_in x_t + b_in + W_hn (f * h_{t-1}) + b_hn)``.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional
        As for :class:`RNN`.
    dtype, rng, init, clip, zoneout, recurrent_dropout
        As for :class:`RNN`.
    activation, gate_activation : str or tuple
        What n and f go through in place of tanh and the sigmoid; names as for :class:`RNN`.

    Attributes
    ----------
    params : dict of str to ndarray
        As for :class:`RNN`, with 2*H rows: f, n.

    Raises
    ------
    ValueError, TypeError
        An argument outside its range, or of another kind.

    Notes
    -----
    Zhou, Wu, Zhang & Zhou, "Minimal gated unit for recurrent neural networks", International
    Journal of Automation and Computing 13 (2016).

    Examples
    --------
    >>> import numpy as np, pyrnn
    >>> layer = pyrnn.MGU(3, 4, rng=0)
    >>> y, h = layer(np.zeros((5, 2, 3), "float32"))
    >>> y.shape, layer.params["weight_hh_l0"].shape
    ((5, 2, 4), (8, 4))
    """

    _family = "mgu"
    _options = ("activation", "gate_activation", "clip", "zoneout", "recurrent_dropout")

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
        dtype: npt.DTypeLike = "float32",
        rng: int | np.random.Generator | None = None,
        init: str = "uniform",
        activation: Activation = "tanh",
        gate_activation: Activation = "sigmoid",
        clip: float | None = None,
        zoneout: float = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        self.activation, self.gate_activation, self.clip = activation, gate_activation, clip
        self.zoneout, self.recurrent_dropout = zoneout, recurrent_dropout
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
        P, less than H: ``h_t = W_hr (o * tanh(c_t))`` has P columns (Sak, Senior & Beaufays, 2014);
        0 for none.
    dtype, rng, init, clip, recurrent_dropout
        As for :class:`RNN`.
    forget_bias : float, optional
        What ``bias_ih + bias_hh`` of the forget gate starts at. 1 makes a new network remember
        (Jozefowicz, Zaremba & Sutskever, ICML 2015). None: drawn like all others.
    peephole : {None, "diagonal", "full"}
        Let the gates see the cell: ``p * c``, or the matrix product ``P c``; i and f that of the
        step before, o the new one (Gers & Schmidhuber, 2000).
    coupled : bool
        No input gate: ``i = 1 - f``, the gates are f, g and o (Greff et al., 2017).
    activation, gate_activation : str or tuple
        What g and the output, and i, f and o, go through in place of tanh and the sigmoid; names as
        for :class:`RNN`.
    cell_clip : float, optional
        Clamp c_t to ±cell_clip before it is used.
    layer_norm : bool
        As for :class:`RNN`, and c_t ahead of its tanh.
    zoneout : float or tuple of two floats
        As for :class:`RNN`, of h and c alike or (h, c).

    Attributes
    ----------
    params : dict of str to ndarray
        As for :class:`RNN`, with 4*H rows: gates i, f, g, o, or 3*H: f, g, o. ``weight_hh_l0``
        (4*H, P). With a projection ``weight_hr_l0`` (P, H), with peepholes ``weight_peephole_l0``
        (3, H) or (3, H, H), rows i, f, o, or f, o; with ``layer_norm`` also ``ln_c_weight_l0`` and
        ``ln_c_bias_l0`` (H).

    Raises
    ------
    ValueError, TypeError
        An argument outside its range, or of another kind.

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

    _family = "lstm"
    _states = ("h", "c")
    _options = (
        "coupled", "activation", "gate_activation", "clip", "cell_clip", "zoneout",
        "recurrent_dropout",
    )  # fmt: skip

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
        peephole: str | None = None,
        coupled: bool = False,
        activation: Activation = "tanh",
        gate_activation: Activation = "sigmoid",
        clip: float | None = None,
        cell_clip: float | None = None,
        layer_norm: bool = False,
        zoneout: float | tuple[float, float] = 0.0,
        recurrent_dropout: float = 0.0,
    ) -> None:
        self.proj_size = checked_integer("proj_size", proj_size, 0)
        if self.proj_size >= checked_integer("hidden_size", hidden_size, 1):
            raise ValueError(
                f"proj_size: expected less than hidden_size = {hidden_size}, got {proj_size}"
            )
        if peephole not in (None, "diagonal", "full"):
            raise ValueError(f"peephole: expected None, 'diagonal' or 'full', got {peephole!r}")
        self.peephole, self.coupled = peephole, bool(coupled)
        self.activation, self.gate_activation = activation, gate_activation
        self.clip, self.cell_clip, self.layer_norm = clip, cell_clip, bool(layer_norm)
        self.zoneout, self.recurrent_dropout = zoneout, recurrent_dropout
        if forget_bias is not None:
            forget_bias = checked_number("forget_bias", forget_bias, -np.inf)
            if not bias:
                raise ValueError("forget_bias: expected None with bias=False")
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            dtype, rng, init,
        )  # fmt: skip
        if forget_bias is not None:
            first = 0 if self.coupled else self.hidden_size
            forget = slice(first, first + self.hidden_size)
            for names in self._names:
                self.params[names.kinds["bias_ih"]][forget] = forget_bias
                self.params[names.kinds["bias_hh"]][forget] = 0.0
