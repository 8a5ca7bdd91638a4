"""The figures of docs/diagnostics.md, each an experiment of a few seconds: ``pyrnn figures DIR``.

The weights are drawn from fixed seeds, so that the figures are the same again.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from .autocomplete.colouring import slowest_unit, unit_values
from .autocomplete.corpus import language_reference, split
from .autocomplete.errors import InputError
from .autocomplete.model import CharModel
from .autocomplete.training import Settings, train
from .coloured import coloured_text
from .diagnostics import gradient_flow
from .gates import gate_statistics
from .layers import LSTM, RNN
from .optimisers import SGD
from .plots import (
    COLOURS,
    draw_gates,
    draw_text,
    finish,
    new_figure,
    norm,
    plot_norms,
    write_figure,
)
from .training import clip_grad_norm

_DPI = 90
_SIZE = (6.0, 3.6)
# Of the text that the trained model is shown on.
_CHARACTERS = 900


def add_command(commands: Any) -> None:
    """Add ``figures`` to the subparsers of the command."""
    parser = commands.add_parser(
        "figures",
        help="draw the figures of the chapter on diagnostics",
        description="Draw how gradients vanish and explode, what clipping does, what forget gates "
        "keep, and the gates and a unit of a character model. Needs matplotlib.",
    )
    parser.add_argument("folder", metavar="DIR", help="write the figures here")
    parser.add_argument(
        "--model", metavar="FILE",
        help="a model that pyrnn autocomplete saved; without it a small one is trained first, in "
        "half a minute",
    )  # fmt: skip
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """The command.

    Raises
    ------
    InputError
        matplotlib is missing, or something given cannot be used.
    """
    folder = Path(arguments.folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder")
    saved = None if arguments.model is None else CharModel.load(arguments.model)
    training, text = split(language_reference())
    try:
        for draw in (vanishing, exploding, clipping, forget_gates):
            _write(folder / f"{draw.__name__}.png", draw())
        model = _small_model(training, text) if saved is None else saved
        _write(folder / "gates.png", gates(model, text))
        unit = slowest_unit(model, text)
        values = unit_values(model, text)[:, unit]
        _write(folder / "activations.png", draw_text(text[:_CHARACTERS], values[:_CHARACTERS]))
        page = folder / "activations.html"
        page.write_text(
            coloured_text(text[:_CHARACTERS], values[:_CHARACTERS], title=f"unit {unit}"), "utf-8"
        )
        print(page)
    except ModuleNotFoundError as error:
        raise InputError(str(error)) from None
    except OSError as error:
        raise InputError(f"{error.filename}: {error.strerror}") from None


def _write(target: Path, figure: Any) -> None:
    print(write_figure(figure, target, _DPI), flush=True)


def elman(radius: float, hidden_size: int = 32) -> RNN:
    """Whose recurrent matrix is orthogonal times ``radius``, so that W alone changes every length
    by just that factor; without biases."""
    layer = RNN(1, hidden_size, bias=False, dtype="float64", rng=0, init="orthogonal")
    layer.params["weight_hh_l0"] *= radius
    return layer


def _over_distance(radii: tuple[float, ...], scale: float) -> Any:
    """‖∂h_T/∂h_t‖ over T - t, and radius^(T - t) dashed, for inputs of this scale."""
    figure, at = new_figure(1, 1, _SIZE)
    steps = np.arange(60)
    x = scale * np.random.default_rng(0).normal(size=(len(steps), 1, 1))
    for radius, colour in zip(radii, COLOURS, strict=False):
        flow = gradient_flow(elman(radius), x)
        assert flow.h_jacobian is not None
        plot_norms(at, flow.h_jacobian[0, ::-1], color=colour, label=f"radius {radius:g}")
        plot_norms(at, radius**steps, color=colour, linestyle="--", alpha=0.6)
    at.set_xlabel("steps back, $T - t$")
    at.set_ylabel(norm("h_T", "h_t"))
    finish(at)
    return figure


def vanishing() -> Any:
    """Recurrent matrices that shrink, and tanh that shrinks as well."""
    return _over_distance((0.95, 0.8, 0.5), 1.0)


def exploding() -> Any:
    """Recurrent matrices that stretch, at small inputs: tanh does not hold them back at first."""
    return _over_distance((1.6, 1.3, 1.1), 0.001)


# One unit, h_t = σ(w h_{t-1} + b), and the loss (h_50 - 0.7)²: the example of Pascanu, Mikolov &
# Bengio, ICML 2013. Where w and b cross a line, h_50 jumps from one fixed point to another.
_STEPS_OF_ONE_UNIT = 50
_TARGET = 0.7
_START = (5.0, -2.6)
_RATE, _MAX_NORM, _UPDATES = 0.1, 0.5, 30


def one_unit(w: float, b: float) -> RNN:
    layer = RNN(1, 1, nonlinearity="sigmoid", dtype="float64", rng=0)
    for name, value in {"weight_ih": 0.0, "weight_hh": w, "bias_ih": 0.0, "bias_hh": b}.items():
        layer.params[f"{name}_l0"][...] = value
    return layer


def _h_of_one_unit(layer: RNN) -> Any:
    """h_50 (1, 1, 1), and the tape."""
    _, h, tape = layer.forward(np.zeros((_STEPS_OF_ONE_UNIT, 1, 1)), np.full((1, 1, 1), 0.5))
    return h, tape


def descent(max_norm: float | None) -> Iterator[tuple[float, float, float]]:
    """w, b and the loss ahead of each update, with gradients clipped to ``max_norm`` or not."""
    layer = one_unit(*_START)
    moving = {name: layer.params[name] for name in ("weight_hh_l0", "bias_hh_l0")}
    optimiser = SGD(moving, lr=_RATE)
    for _ in range(_UPDATES):
        h, tape = _h_of_one_unit(layer)
        w, b = (array.item() for array in moving.values())
        yield w, b, (h.item() - _TARGET) ** 2
        grads = layer.backward(tape, None, 2 * (h - _TARGET)).params
        kept = {name: grads[name] for name in moving}
        if max_norm is not None:
            clip_grad_norm(kept, max_norm)
        optimiser.step(kept)


def clipping() -> Any:
    """Descent on the surface of the loss with a wall in it, with and without clipping."""
    figure, (surface, losses) = new_figure(1, 2, (9.0, 3.6), width_ratios=(1.25, 1))
    ws, bs = np.linspace(4.6, 5.3, 71), np.linspace(-2.75, -2.2, 56)
    loss = [[(_h_of_one_unit(one_unit(w, b))[0].item() - _TARGET) ** 2 for w in ws] for b in bs]
    image = surface.imshow(
        loss, origin="lower", aspect="auto", extent=(ws[0], ws[-1], bs[0], bs[-1]), cmap="Greys"
    )
    figure.colorbar(image, ax=surface, label="loss")
    for max_norm, colour, style in ((None, COLOURS[1], "--"), (_MAX_NORM, COLOURS[0], "-")):
        label = "not clipped" if max_norm is None else f"clipped to {max_norm:g}"
        w, b, of_path = np.array(list(descent(max_norm))).T
        surface.plot(w, b, style, marker=".", color=colour, linewidth=1, label=label)
        losses.plot(of_path, style, color=colour, linewidth=1.3, label=label)
    surface.set_xlim(ws[0], ws[-1])
    surface.set_ylim(bs[0], bs[-1])
    surface.set_xlabel("w")
    surface.set_ylabel("b")
    losses.set_xlabel("update")
    losses.set_ylabel("loss")
    finish(surface)
    finish(losses)
    return figure


def forget_gates() -> Any:
    """‖∂c_T/∂c_t‖ of new LSTMs over T - t, and the product of their forget gates dashed."""
    figure, at = new_figure(1, 1, _SIZE)
    seq_len, hidden_size = 100, 32
    x = np.random.default_rng(0).normal(size=(seq_len, 1, 1))
    for bias, colour in zip((3.0, 1.0, 0.0), COLOURS, strict=False):
        layer = LSTM(1, hidden_size, dtype="float64", rng=0, forget_bias=bias)
        flow = gradient_flow(layer, x)
        assert flow.c_jacobian is not None
        plot_norms(at, flow.c_jacobian[0, ::-1], color=colour, label=f"forget bias {bias:g}")
        f = layer.forward(x)[2].tapes[0].gates[:, 0, hidden_size : 2 * hidden_size]  # type: ignore[union-attr]
        # From c_T back to c_t lie f_T ... f_{t+1}; the unit that keeps most.
        products = np.cumprod(np.concatenate([np.ones((1, hidden_size)), f[:0:-1]]), axis=0)
        plot_norms(at, products.max(axis=1), color=colour, linestyle="--", alpha=0.6)
    at.set_xlabel("steps back, $T - t$")
    at.set_ylabel(norm("c_T", "c_t"))
    finish(at)
    return figure


def gates(model: CharModel, text: str) -> Any:
    """Of a character model that reads the text."""
    _, _, tape = model.layer.forward(model.vocabulary.encode(text)[:, None])
    return draw_gates(gate_statistics(tape))


def _small_model(training: str, held_out: str) -> CharModel:
    model = CharModel.create(training, hidden_size=128)
    encode = model.vocabulary.encode
    for epoch in train(model, encode(training), encode(held_out), Settings(epochs=3)):
        line = f"epoch {epoch.number}: {epoch.held_out_bits:.2f} bits per held-out character"
        print(line, file=sys.stderr)
    return model
