"""Many to one: a snippet of a movie review to how positive people find it.

words x_1 .. x_T -> the mean of all h_t, of both directions -> rating. The layer takes the numbers
of the words: they stand for one-hot vectors, so the columns of W_ih are the word vectors.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from _common import (
    UNKNOWN,
    Array,
    Gradients,
    Result,
    Source,
    arguments,
    fetch,
    named,
    padded,
    report,
    split,
    train,
    vocabulary,
)

import pyrnn

SNIPPETS = Source(
    "vaderSentiment==3.3.2",
    "5d7c06e027fc8b99238edb0d53d970cf97066ef97654009890b83703849632f9",
    "sdist",
    (
        "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
        "//hutto_ICWSM_2014/movieReviewSnippets_GroundTruth.txt",
    ),
)


def read(text: str) -> tuple[list[list[str]], Array]:
    """The words of each snippet, and the mean of twenty people's ratings of it, -4..4."""
    fields = [line.split("\t") for line in text.splitlines()]
    words = [re.findall(r"[a-z]+(?:'[a-z]+)?|[!?]", snippet.lower()) for _, _, snippet in fields]
    return words, np.array([float(rating) for _, rating, _ in fields], np.float32)


def naive_bayes(train_words: list[list[str]], positive: Array, words: list[list[str]]) -> Array:
    """A baseline that forgets the order: counts of each word in the two classes, plus one."""
    counts = [
        Counter(
            w for snippet, p in zip(train_words, positive, strict=True) if p == k for w in snippet
        )
        for k in (False, True)
    ]
    totals = [sum(count.values()) + len(counts[0] | counts[1]) for count in counts]

    def evidence(word: str) -> float:
        return math.log((counts[1][word] + 1) / totals[1] / (counts[0][word] + 1) * totals[0])

    prior = math.log((positive.sum() + 1) / ((~positive).sum() + 1))
    return np.array([prior + sum(map(evidence, snippet)) > 0 for snippet in words])


def main(argv: Sequence[str] | None = None) -> Result:
    args = arguments(__doc__, argv, epochs=5, batch_size=32, hidden=32, lr=0.005)
    (path,) = fetch(SNIPPETS, args.data)
    words, ratings = read(path.read_text("utf-8"))
    train_rows, test_rows = split(len(words), args)

    known = vocabulary(words[row] for row in train_rows)
    tokens = [[known.get(word, UNKNOWN) for word in snippet] for snippet in words]

    layer = pyrnn.LSTM(1 + len(known), args.hidden, bidirectional=True, rng=args.seed)
    head = pyrnn.Linear(2 * args.hidden, 1, rng=args.seed)
    rng = np.random.default_rng([args.seed, 2])

    def loss_and_grads(rows: Array) -> Gradients:
        x, lengths = padded([tokens[row] for row in rows])
        # Half of the words is hidden, so that no single one decides.
        x = np.where(rng.random(x.shape) < 0.5, UNKNOWN, x)
        y, _, tape = layer.forward(x, lengths=lengths)  # (T, B) -> (T, B, 2H), 0 past the lengths
        share = (1 / np.maximum(lengths, 1)).astype(np.float32)[:, None]
        rating, head_tape = head.forward(y.sum(axis=0) * share)
        error = rating - ratings[rows, None]
        head_grads = head.backward(head_tape, 2 * error / np.float32(len(rows)))
        # Each h_t has the same part in the mean, and its gradient the same part in dy.
        grads = layer.backward(tape, np.broadcast_to(head_grads.x * share, y.shape))
        return float(np.mean(error**2)), named(layer=grads.params, head=head_grads.params)

    losses = train(loss_and_grads, named(layer=layer.params, head=head.params), train_rows, args)

    x, lengths = padded([tokens[row] for row in test_rows])
    y, _ = layer(x, lengths=lengths)
    rating = head(y.sum(axis=0) / np.float32(np.maximum(lengths, 1))[:, None])[:, 0]
    for row, guess in list(zip(test_rows, rating, strict=True))[:5]:
        print(f"{guess:+.1f} (people: {ratings[row]:+.1f})", *words[row][:12])

    positive = ratings > 0
    usual = positive[train_rows].mean() > 0.5
    print(f"always the commoner sign: {np.mean(positive[test_rows] == usual):.3f}")
    guesses = naive_bayes(
        [words[row] for row in train_rows], positive[train_rows], [words[row] for row in test_rows]
    )
    score = float(np.mean((rating > 0) == positive[test_rows]))
    baseline = float(np.mean(guesses == positive[test_rows]))
    return report("accuracy of the sign", score, "naive Bayes", baseline, losses)


if __name__ == "__main__":
    main()
