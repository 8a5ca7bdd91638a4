"""Many to one, again every year: sunspots of the next year, and rolled on for eleven.

x_1 .. x_t -> h_t -> x_{t+1}. A frozen stream reads one year at a time. To look further ahead it is
fed its own forecasts; then it goes back to the state before them and on with what really came.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from _common import Array, Gradients, Result, Source, arguments, fetch, named, report, train

import pyrnn

SUNSPOTS = Source(
    "statsmodels==0.15.0",
    "b67886b66d9c7ca118526accedb5c6de7ffd74c015dc0492ea0b1690192b65da",
    "wheel",
    ("statsmodels/datasets/sunspots/sunspots.csv",),
)
CYCLE = 11  # years from one maximum of the sun to the next, about
HELD_OUT = 60  # years, the last ones
SCALE = np.float32(100)  # sunspots in a unit of the network


def rolled_forecasts(layer: pyrnn.LSTM, head: pyrnn.Linear, series: Array, first: int) -> Array:
    """Forecasts (N, CYCLE): row n is for the years from first + n on, told the year before."""
    stream = layer.freeze().stream()
    forecasts = []
    for year in range(len(series) - CYCLE):
        h = stream.step(series[year])
        if year + 1 < first:
            continue
        kept = stream.state
        ahead = [head(h)]
        while len(ahead) < CYCLE:
            ahead.append(head(stream.step(ahead[-1])))
        forecasts.append(np.concatenate(ahead))
        stream.reset(kept)
    return np.array(forecasts)


def main(argv: Sequence[str] | None = None) -> Result:
    args = arguments(__doc__, argv, epochs=30, batch_size=16, hidden=16, lr=0.01)
    (path,) = fetch(SUNSPOTS, args.data)
    years, spots = np.loadtxt(path, delimiter=",", skiprows=1).T
    series = (spots / SCALE).astype(np.float32)[:, None]  # (T, 1)
    first = len(series) - HELD_OUT

    layer = pyrnn.LSTM(1, args.hidden, rng=args.seed)
    head = pyrnn.Linear(args.hidden, 1, rng=args.seed)
    # Stretches of five cycles; the first cycle of each only warms the state up.
    length = 5 * CYCLE
    starts = np.arange(first - length)[: args.limit]

    def loss_and_grads(rows: Array) -> Gradients:
        x = np.stack([series[row : row + length] for row in rows], axis=1)  # (T, B, 1)
        target = np.stack([series[row + 1 : row + length + 1] for row in rows], axis=1)
        y, _, tape = layer.forward(x)
        forecast, head_tape = head.forward(y)
        error = forecast - target
        error[:CYCLE] = 0
        count = np.float32(error[CYCLE:].size)
        head_grads = head.backward(head_tape, 2 * error / count)
        grads = layer.backward(tape, head_grads.x)
        loss = float(np.square(error).sum() / count)
        return loss, named(layer=grads.params, head=head_grads.params)

    losses = train(loss_and_grads, named(layer=layer.params, head=head.params), starts, args)

    forecasts = SCALE * rolled_forecasts(layer, head, series, first)
    targets = np.lib.stride_tricks.sliding_window_view(spots[first:], CYCLE)

    def rmse(guess: Array) -> Array:
        """Per year ahead."""
        error: Array = np.sqrt(np.mean(np.square(guess - targets), axis=0))
        return error

    persistence = np.repeat(spots[first - 1 : -CYCLE, None], CYCLE, axis=1)
    seasonal = np.lib.stride_tricks.sliding_window_view(spots[first - CYCLE : -CYCLE], CYCLE)
    found = {"LSTM": forecasts, "persistence": persistence, "a cycle ago": seasonal}
    print(f"root mean square error, {years[first]:.0f} on: 1 year ahead, 2, ...")
    for name, guess in found.items():
        print(f"{name:12}", *(f"{error:5.1f}" for error in rmse(guess)))
    errors = {name: float(rmse(guess).mean()) for name, guess in found.items()}
    best = min(("persistence", "a cycle ago"), key=errors.__getitem__)
    return report("error, mean of 1 to 11 years", errors["LSTM"], best, errors[best], losses)


if __name__ == "__main__":
    main()
