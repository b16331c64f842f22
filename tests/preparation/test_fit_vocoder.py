"""Fitting the vocoder "conv": order, shares of workers, resuming, audio, errors, Ray Train."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from raystt.config import ResourcesConfig
from raystt.files import write_atomic
from raystt.preparation import fit_vocoder, vocoder_features
from raystt.preparation.files import WORK
from raystt.preparation.fit_vocoder import Settings, train_vocoder
from raystt.preparation.vocoder_features import Features, Utterance
from raystt.speech.audio import read_audio, write_flac
from raystt.vocoder.conv import ConvVocoder
from raystt.vocoder.spectrum import VocoderError

CLUSTERS = 12
SMALL = Settings(CLUSTERS, steps=8, batch=4, hidden=16, seed=1)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def utterances() -> list[Utterance]:
    """Tones whose pitch is their unit's, of odd lengths as encoders leave them."""
    random = np.random.default_rng(0)
    made: list[Utterance] = []
    for _ in range(7):
        units = random.integers(0, CLUSTERS, random.integers(3, 9))
        durations = random.integers(1, 4, len(units))
        pitch = np.repeat(200.0 + 100 * units, durations * 960)
        waveform = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch) / 16000)
        waveform = waveform[: len(waveform) - random.integers(0, 900)]
        made.append((units, durations, waveform.astype(np.float32)))
    return made


def test_is_seeded_and_tells_of_every_step(utterances: list[Utterance]) -> None:
    told: list[tuple[int, int, float]] = []
    first = train_vocoder(
        utterances, SMALL, on_step=lambda step, steps, loss: told.append((step, steps, loss))
    )
    assert [(step, steps) for step, steps, _ in told] == [(i, 8) for i in range(1, 9)]
    assert train_vocoder(utterances, SMALL).signature == first.signature
    assert train_vocoder(utterances, replace(SMALL, seed=2)).signature != first.signature


def test_every_sentence_has_its_turn() -> None:
    batches = fit_vocoder._batches(sentences=7, batch=4, seed=0)
    seen = [index for _ in range(7) for index in next(batches)]
    assert [sorted(seen[i : i + 7]) for i in range(0, 28, 7)] == [list(range(7))] * 4
    assert seen[:7] != seen[7:14]


@pytest.mark.parametrize("world", [1, 2, 3, 5])
@pytest.mark.parametrize("deduplicated", [True, False])
def test_shares_of_workers_add_up(
    utterances: list[Utterance], world: int, deduplicated: bool
) -> None:
    given = utterances
    if not deduplicated:
        given = [(np.repeat(u, d), np.ones(d.sum(), np.int64), w) for u, d, w in utterances]
    shape = train_vocoder(given, replace(SMALL, steps=1)).shape
    acoustics = shape.acoustics(None)
    features = Features(given, shape, acoustics)
    torch.manual_seed(0)
    network = shape.network(acoustics)
    chosen = [6, 0, 3, 2]

    def gradients(rank: int, world: int) -> tuple[float, list[torch.Tensor]]:
        network.zero_grad()
        own, share = fit_vocoder._own(network, features, chosen, rank, world)
        loss = network([features.example(index) for index in own], share)
        loss.backward()
        return float(loss.detach()), [weight.grad.clone() for weight in network.parameters()]

    asked_loss, asked = gradients(0, 1)
    parts = [gradients(rank, world) for rank in range(world)]
    assert sum(loss for loss, _ in parts) / world == pytest.approx(asked_loss, rel=1e-5)
    for index, gradient in enumerate(asked):
        found = torch.stack([part[1][index] for part in parts]).mean(0)
        torch.testing.assert_close(found, gradient, rtol=1e-4, atol=1e-6)


def test_a_killed_fit_goes_on(
    utterances: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_vocoder, "_STATE_EVERY", 3)
    state = tmp_path / "work" / "state"

    def killed(step: int, steps: int, loss: float) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_vocoder(utterances, SMALL, state=state, on_step=killed)
    assert [path.name for path in state.parent.iterdir()] == ["state"]
    steps: list[int] = []
    resumed = train_vocoder(
        utterances, SMALL, state=state, on_step=lambda step, *_: steps.append(step)
    )
    assert steps == [4, 5, 6, 7, 8]
    assert resumed.signature == train_vocoder(utterances, SMALL).signature

    # Not another fit's.
    steps.clear()
    other = replace(SMALL, seed=2)
    train_vocoder(utterances, other, state=state, on_step=lambda step, *_: steps.append(step))
    assert steps[0] == 1


def test_audio_is_read_from_files(
    utterances: list[Utterance], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files: list[Utterance] = []
    for index, (units, durations, waveform) in enumerate(utterances):
        path = str(tmp_path / f"{index}.flac")
        write_flac(path, np.asarray(waveform))
        files.append((units, durations, path))
    held = [(units, durations, read_audio(str(path))) for units, durations, path in files]
    asked = train_vocoder(held, SMALL).signature
    assert train_vocoder(files, SMALL).signature == asked

    # What does not fit into memory is read again, and is the same; mean and scale are of the rest.
    shape, acoustics = _shape(files)
    every = Features(files, shape, acoustics)
    monkeypatch.setattr(vocoder_features, "_KEPT", 1)
    first = Features(files, shape, acoustics)
    assert (len(every._kept), len(first._kept)) == (7, 1)
    for index in (0, 3):
        one, other = every.example(index).frames, first.example(index).frames
        steps = one.reshape(-1, 60) * every.scale + every.mean
        torch.testing.assert_close(other.reshape(-1, 60) * first.scale + first.mean, steps)
        assert torch.equal(other, first.example(index).frames)
    assert torch.isfinite(first.scale).all()


def _shape(utterances: list[Utterance]) -> tuple:
    shape = train_vocoder(utterances, replace(SMALL, steps=1)).shape
    return shape, shape.acoustics(None)


def test_durations_of_one_frame_need_no_prediction(utterances: list[Utterance]) -> None:
    frames = [(np.repeat(u, d), np.ones(d.sum(), np.int64), w) for u, d, w in utterances]
    made = train_vocoder(frames, SMALL)
    assert made.shape.longest == 1
    assert not any("duration" in name for name in made._tensors())
    assert "duration.weight" in train_vocoder(utterances, SMALL)._tensors()
    assert len(made.synthesize([np.array([1, 1, 4])])[0]) == 3 * 960


def test_frames_that_an_encoder_leaves_out() -> None:
    # 20 ms units of a window of 25 ms: 400 samples at the end are in no whole frame.
    waveform = 0.1 * np.random.default_rng(0).standard_normal(3600).astype(np.float32)
    settings = replace(SMALL, frame_seconds=0.02, steps=2)
    made = train_vocoder([(np.arange(10), np.ones(10, np.int64), waveform)], settings)
    assert [len(w) for w in made.synthesize([np.array([4]), np.arange(10)])] == [320, 3200]
    with pytest.raises(VocoderError, match="frame of 961 samples"):
        train_vocoder([(np.arange(1), np.ones(1), waveform)], Settings(10, 961 / 16000))


def test_unfitting_sentences(utterances: list[Utterance]) -> None:
    units, durations, waveform = utterances[0]
    cases: dict[str, list[Utterance]] = {
        "no units to fit": [(units[:0], durations[:0], waveform)],
        "sentence 1: .* durations": [utterances[0], (units, durations[1:], waveform)],
        "sentence 0: .* duration of 1 frame or more": [(units, durations * 0, waveform)],
        "sentence 0: durations of .* do not fit": [(units, durations, waveform[:900])],
        "the loss of the vocoder is nan at step 1": [(units, durations, waveform * np.nan)],
    }
    for message, given in cases.items():
        with pytest.raises(VocoderError, match=message):
            train_vocoder(given, SMALL)
    with pytest.raises(VocoderError, match="training sentence 0: unit"):
        train_vocoder(utterances, replace(SMALL, clusters=2))


def test_a_fitted_vocoder_is_stored_whole(utterances: list[Utterance], tmp_path: Path) -> None:
    made = train_vocoder(utterances, SMALL)
    made.save(tmp_path)
    assert ConvVocoder.load(tmp_path).signature == made.signature


RESOURCES = ResourcesConfig(cpus=2, trainers=1, encoders=2, cpus_per_encoder=0.5)


@pytest.mark.long
def test_two_workers_fit_what_one_process_does(
    ray_local: str, utterances: list[Utterance], tmp_path: Path
) -> None:
    files: list[Utterance] = []
    for index, (units, durations, waveform) in enumerate(utterances[:4]):
        write_flac(tmp_path / "audio" / f"{index}.flac", np.asarray(waveform))
        files.append((units, durations, str(tmp_path / "audio" / f"{index}.flac")))
    note, out = tmp_path / "progress.json", tmp_path / "vocoder"
    settings = Settings(CLUSTERS, seed=3, steps=250)
    fit_vocoder.fit_vocoder(
        files, settings, out, RESOURCES,
        on_step=lambda step, steps, loss: write_atomic(note, json.dumps([step, steps])),
    )  # fmt: skip
    found = ConvVocoder.load(out)._tensors()
    # Four sentences are learnt in three steps each, whatever is asked for.
    asked = train_vocoder(files, replace(settings, steps=12))._tensors()
    start = train_vocoder(files, replace(settings, steps=1))._tensors()
    assert found.keys() == asked.keys()
    for name, value in asked.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=5e-3, msg=name)
    # They did learn: what is compared is not the start.
    assert (asked["output.weight"] - start["output.weight"]).abs().max() > 1e-2
    assert json.loads(note.read_text()) == [12, 12]
    assert {path.name for path in tmp_path.iterdir()} - {WORK} == {
        "audio", "progress.json", "vocoder"
    }  # fmt: skip
    assert not [*tmp_path.joinpath(WORK).glob("*")]
