"""The main job end to end: ``pyrnn autocomplete`` trained on a small text."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from helpers_command import QUICK, SENTENCES, VERBS, run_command
from tolerances import assert_same_bits

import pyrnn
from pyrnn import Adam, clip_grad_norm
from pyrnn.__main__ import main
from pyrnn.autocomplete.cli import PREFIXES
from pyrnn.autocomplete.completing import complete
from pyrnn.autocomplete.corpus import Vocabulary, language_reference, split
from pyrnn.autocomplete.errors import InputError
from pyrnn.autocomplete.model import CharModel
from pyrnn.autocomplete.ngram import NgramModel, bits_per_symbol
from pyrnn.autocomplete.training import (
    Settings,
    TrainingStep,
    dropout_mask,
    learning_rate,
    step_seconds,
    streams,
    train,
)


@pytest.fixture
def text_file(tmp_path: Path) -> Path:
    path = tmp_path / "sentences.txt"
    path.write_text(SENTENCES, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that knows the sentences."""
    pyrnn.set_num_threads(1)
    model = CharModel.create(split(SENTENCES)[0], "lstm", 32, seed=1)
    settings = Settings(epochs=10, batch_size=4, steps=25, learning_rate=0.02, dropout=0.0)
    ids = [model.vocabulary.encode(part) for part in split(SENTENCES)]
    assert len(list(train(model, ids[0], ids[1], settings, progress=False))) == 10
    path = tmp_path_factory.mktemp("model") / "sentences.safetensors"
    model.save(path)
    return path


# Training


def test_the_whole_command(text_file: Path, tmp_path: Path) -> None:
    saved = tmp_path / "model.safetensors"
    done = run_command("autocomplete", "--text", text_file, *QUICK, "--save", saved)
    assert (done.returncode, done.stderr) == (0, b"")
    out = done.stdout.decode()
    training, held_out = split(SENTENCES)
    assert f"{len(training):,} characters to train on, {len(held_out):,} held out" in out
    epochs = re.findall(r"^ +(\d) +(\d+\.\d{3}) +(\d+\.\d{3}) +[\d,]+$", out, re.MULTILINE)
    assert [number for number, _, _ in epochs] == ["1", "2"]
    assert float(epochs[0][1]) > float(epochs[1][1])
    assert re.search(r"one training step: [\d.]+ ms; on the NumPy reference [\d.]+ ms, ", out)

    # The same numbers, from the parts; the saved model completes as the trained one did.
    model = CharModel.load(saved)
    ids = model.vocabulary.encode(held_out)
    assert f"{model.bits_per_character(ids):.3f}" == epochs[1][1]
    ngram = NgramModel(model.vocabulary.encode(training), len(model.vocabulary))
    assert f"{bits_per_symbol(ngram, ids):.3f}" == epochs[0][2]
    completed = out[out.index('\n"') :]
    prefixes = re.findall(r'^"(.*)"$', completed, re.MULTILINE)
    assert len(prefixes) == 5
    again = run_command("autocomplete", "--model", saved, *(f"--prefix={p}" for p in prefixes))
    assert again.stdout.decode() == completed
    from_stdin = run_command("autocomplete", "--model", saved, stdin="\n".join(prefixes) + "\n\n")
    assert from_stdin.stdout.decode() == completed


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_every_cell_learns_the_sentences(cell: str) -> None:
    pyrnn.set_num_threads(1)
    training, held_out = split(SENTENCES)
    model = CharModel.create(training, cell, 32, num_layers=2, dropout=0.1, seed=3)
    ids, held_out_ids = (model.vocabulary.encode(part) for part in (training, held_out))
    counts = np.bincount(ids, minlength=len(model.vocabulary)) + 0.5
    frequencies = -np.log2((counts / counts.sum())[held_out_ids[1:]]).mean()
    settings = Settings(epochs=6, batch_size=4, steps=25, learning_rate=0.01, dropout=0.1)
    bits = [epoch.held_out_bits for epoch in train(model, ids, held_out_ids, settings, False)]
    # Two choices of 5 nouns and one of 4 verbs are 6.6 bits in the 31 characters of a sentence.
    assert bits[-1] < 0.4 < 2.0 < frequencies
    assert bits[-1] < bits[0]


def test_a_new_model_predicts_the_frequencies() -> None:
    training, held_out = split(SENTENCES)
    model = CharModel.create(training, hidden_size=16, seed=0)
    ids = model.vocabulary.encode(training)
    unigrams = NgramModel(ids, len(model.vocabulary), order=1)
    held_out_ids = model.vocabulary.encode(held_out)
    bits = bits_per_symbol(unigrams, held_out_ids)
    assert abs(model.bits_per_character(held_out_ids) - bits) < 0.3


def _restless(cell: str) -> CharModel:
    """A model whose predictions depend on everything it has read."""
    model = CharModel.create(SENTENCES, cell, hidden_size=8, seed=0)
    for part, name in ((model.layer, "weight_hh_l0"), (model.head, "weight")):
        part.params[name] *= 8.0
    return model


def test_bits_per_character_carry_the_state_through() -> None:
    model = _restless("rnn")
    ids = model.vocabulary.encode(SENTENCES[:1203])
    y, _ = model.layer(ids[:-1, None])
    scores = model.head(y[:, 0]).astype(np.float64)
    p = np.exp(scores[np.arange(len(scores)), ids[1:]]) / np.exp(scores).sum(axis=1)
    assert model.bits_per_character(ids) == pytest.approx(-np.log2(p).mean(), rel=1e-6)


def test_streams_are_the_text_in_order() -> None:
    ids = np.arange(10_003)
    inputs, targets = streams(ids, Settings(batch_size=4, steps=10))
    assert inputs.shape == targets.shape == (2500, 4)
    np.testing.assert_array_equal(inputs.T.ravel(), ids[:10_000])
    np.testing.assert_array_equal(targets, inputs + 1)
    assert streams(ids[:900], Settings(batch_size=4, steps=10))[0].shape == (449, 2)
    assert streams(ids[:30], Settings(batch_size=4, steps=10))[0].shape == (29, 1)


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_same_seed_same_file_for_any_number_of_threads(
    cell: str, text_file: Path, tmp_path: Path
) -> None:
    def saved(name: str, threads: int, seed: int) -> bytes:
        path = tmp_path / name
        done = run_command(
            "autocomplete", "--text", text_file, "--cell", cell, "--hidden", "128", "--epochs", "1",
            "--batch-size", "16", "--steps", "10", "--threads", str(threads), "--seed", str(seed),
            "--save", path,
            environment={"OMP_NUM_THREADS": str(threads), "OPENBLAS_NUM_THREADS": str(threads)},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return path.read_bytes()

    one = saved("one", threads=1, seed=5)
    assert saved("two", threads=2, seed=5) == one
    if cell == "lstm":
        assert saved("other", threads=1, seed=6) != one


@pytest.mark.parametrize("dropout", [0.0, 0.4])
def test_gradients_of_a_training_step(dropout: float) -> None:
    vocabulary = Vocabulary.of("abc")
    layer = pyrnn.GRU(len(vocabulary), 3, dtype="float64", rng=0)
    model = CharModel(vocabulary, layer, pyrnn.Linear(3, len(vocabulary), dtype="float64", rng=1))
    inputs, targets = np.random.default_rng(2).integers(4, size=(2, 5, 2))
    settings = Settings(dropout=dropout, seed=3)

    def chunk() -> tuple[float, dict[str, np.ndarray]]:
        step = TrainingStep(model, targets, settings)  # anew, so that it drops the same outputs
        (made,) = pyrnn.tbptt(layer, inputs, step.loss, k1=5)
        return made.loss, step.grads(made.grads.params)

    _, grads = chunk()
    params = TrainingStep(model, targets, settings).params
    assert set(grads) == set(params)
    for name, param in params.items():
        numeric = np.zeros_like(param)
        for at in np.ndindex(param.shape):
            value, ends = param[at], []
            for step in (1e-5, -1e-5):
                param[at] = value + step
                ends.append(chunk()[0])
            param[at] = value
            numeric[at] = (ends[0] - ends[1]) / 2e-5
        np.testing.assert_allclose(grads[name], numeric, rtol=1e-5, atol=1e-9, err_msg=name)


def test_dropout_keeps_the_mean() -> None:
    mask = dropout_mask(np.random.default_rng(0), (100, 1000), 0.4, np.dtype("float32"))
    assert mask.dtype == np.float32
    assert set(np.unique(mask)) == {np.float32(0.0), np.float32(1 / 0.6)}
    assert abs(mask.mean(dtype=np.float64) - 1.0) < 0.01


def test_learning_rate_rises_and_falls_to_nothing() -> None:
    settings = Settings(learning_rate=0.5)
    rates = [learning_rate(step, 1000, settings) for step in range(1000)]
    assert rates[0] == pytest.approx(0.5 / 50)
    assert max(rates) == pytest.approx(0.5, rel=0.01)
    assert np.argmax(rates) == 49
    assert rates[-1] < 1e-5
    assert learning_rate(0, 5, settings) == 0.5  # so few steps that none is spent on rising


def test_training_is_its_parts() -> None:
    """The state carried from chunk to chunk, the gradients clipped, each step at its own rate."""
    settings = Settings(epochs=2, batch_size=2, steps=10, max_norm=0.05)
    trained, by_hand = (CharModel.create(SENTENCES, hidden_size=8, seed=3) for _ in range(2))
    ids = trained.vocabulary.encode(SENTENCES[:1100])
    assert len(list(train(trained, ids, ids, settings, progress=False))) == 2

    inputs, targets = streams(ids, settings)
    assert inputs.shape[1] == 2
    step = TrainingStep(by_hand, targets, settings)
    adam = Adam(step.params, 0.0)
    starts = range(0, len(inputs), settings.steps)
    for _ in range(settings.epochs):
        state = None
        for start in starts:
            steps = slice(start, min(start + settings.steps, len(inputs)))
            y, state, tape = by_hand.layer.forward(inputs[steps], state)
            _, dy = step.loss(y, steps)
            grads = step.grads(by_hand.layer.backward(tape, dy).params)
            assert clip_grad_norm(grads, settings.max_norm) > settings.max_norm
            adam.lr = learning_rate(adam.steps, settings.epochs * len(starts), settings)
            adam.step(grads)
    for ours, theirs in ((by_hand.layer, trained.layer), (by_hand.head, trained.head)):
        for name, array in theirs.params.items():
            assert_same_bits(array, ours.params[name], name)


def test_timing_a_step_leaves_the_model_alone() -> None:
    model = CharModel.create(SENTENCES, hidden_size=8, seed=0)
    before = model.layer.state_dict() | model.head.state_dict()
    kernels, reference = step_seconds(model, model.vocabulary.encode(SENTENCES), Settings())
    assert min(kernels, reference) > 0.0
    for name, array in (model.layer.params | model.head.params).items():
        np.testing.assert_array_equal(array, before[name])


def test_a_rate_that_breaks_the_training_is_reported() -> None:
    model = CharModel.create(SENTENCES, "rnn", hidden_size=8, seed=0)
    model.layer.params["weight_hh_l0"][0, 0] = np.nan
    ids = model.vocabulary.encode(SENTENCES)
    settings = Settings(learning_rate=0.125)
    with pytest.raises(InputError, match=r"^training broke down in epoch 1: .* below 0\.125$"):
        list(train(model, ids, ids, settings, progress=False))


# Completing


def test_completions_are_what_the_text_holds(model_file: Path) -> None:
    model = CharModel.load(model_file)
    found = complete(model, "the ri", count=4)
    assert {text for text, _ in found} == {f"ver {verb}" for verb in VERBS}
    probabilities = [p for _, p in found]
    assert probabilities == sorted(probabilities, reverse=True)
    assert 0.8 < sum(probabilities) <= 1.0
    ((text, probability),) = complete(model, "the mountain hears the win", count=1, words=1)
    assert text == "dow"
    assert probability > 0.8


def test_probability_is_the_product_over_the_characters() -> None:
    model = _restless("rnn")
    prefix = "the gar"
    # From scratch: p(text) over p(prefix), both summed over what may stand ahead of them.
    read, written = 0.0, dict.fromkeys(complete(model, prefix, count=3), 0.0)
    ends = [not c.isalnum() and c != "_" for c in ("\ufffd", *model.vocabulary.characters)]
    assert len(model.leads) > 1
    for lead in model.leads:
        for completion in written:
            ids = model.vocabulary.encode(lead + prefix + completion[0])
            y, _ = model.layer(ids[:, None])
            scores = np.exp(model.head(y[:, 0]).astype(np.float64))
            p = scores / scores.sum(axis=1, keepdims=True)
            along = p[np.arange(len(ids) - 1), ids[1:]][len(lead) - 1 :]
            written[completion] += along.prod() * p[-1, ends].sum()
        read += along[: len(prefix)].prod()
    for (_, probability), product in written.items():
        assert probability == pytest.approx(product / read, rel=1e-4)


def test_completing_prints_the_options_asked_for(
    model_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["autocomplete", "--model", str(model_file), "--prefix", "the l"]
    assert main([*arguments, "--completions", "2", "--words", "1"]) == 0
    out = capsys.readouterr().out
    lines = out.strip("\n").split("\n")
    assert lines[0] == '"the l"'
    assert re.fullmatch(r" +\d+\.\d\d %  the lantern", lines[1])
    assert len(lines) == 3


def test_model_does_not_depend_on_the_folder(model_file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "ü.bin"
    copy.write_bytes(model_file.read_bytes())
    assert complete(CharModel.load(copy), "the ") == complete(CharModel.load(model_file), "the ")


def test_text_without_line_ends(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "one_line.txt"
    path.write_text(SENTENCES.replace("\n", " ").strip())
    assert main(["autocomplete", "--text", str(path), *QUICK, "--prefix", "the w"]) == 0
    assert '"the w"\n' in capsys.readouterr().out


def test_default_prefixes_occur_in_the_language_reference() -> None:
    training, _ = split(language_reference())
    assert [prefix for prefix in PREFIXES if prefix not in training] == []
