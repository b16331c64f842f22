"""Segments: pure functions of their key, resumable bit for bit, forkable."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_corpus, tiny_run
from transformers import AutoModelForCausalLM

from raystt.training.engine import CheckpointError
from raystt.training.jobs import SegmentJob, SegmentResult, plan
from raystt.training.segment import segment_key, train_segment


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    tiny_corpus(tmp_path / "corpus")
    return tmp_path / "corpus"


def job(corpus: Path, start: int, stop: int, parent: SegmentResult | None = None, **training):
    return SegmentJob(
        run=tiny_run(corpus, **training),
        corpus=str(corpus),
        start=start,
        stop=stop,
        parent=parent.state if parent else None,
        states=str(corpus.parent / "states"),
        log=str(corpus.parent / "log"),
    )


def weights(result: SegmentResult) -> dict[str, torch.Tensor]:
    return load_file(result.model / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize("stage", [0, 1, 2, 3])
def test_two_segments_equal_one(corpus: Path, stage: int) -> None:
    whole = train_segment(job(corpus, 0, 6, zero_stage=stage))
    first = train_segment(job(corpus, 0, 3, zero_stage=stage))
    second = train_segment(job(corpus, 3, 6, first, zero_stage=stage))
    assert same(weights(whole), weights(second))
    assert second.loss == whole.loss
    assert first.tokens + second.tokens == whole.tokens


def test_training_lowers_the_loss_and_changes_the_base(corpus: Path) -> None:
    result = train_segment(job(corpus, 0, 40, steps=40, learning_rate=1e-2, dropout=0.0))
    lines = [json.loads(x) for x in (corpus.parent / "log" / "train.jsonl").open()]
    assert [line["step"] for line in lines] == list(range(1, 41))
    assert np.mean([x["loss"] for x in lines[-4:]]) < np.mean([x["loss"] for x in lines[:4]]) - 0.3
    assert lines[0]["ratio"] == pytest.approx(0.9)
    assert lines[-1]["ratio"] == lines[-1]["achieved_words"] == 0.0
    assert list((corpus.parent / "log").glob("events.out.tfevents.*"))
    base = load_file(corpus / "base" / "model.safetensors")
    assert all(not torch.equal(base[name], tensor) for name, tensor in weights(result).items())
    model = AutoModelForCausalLM.from_pretrained(result.model)
    assert model.get_input_embeddings().weight.shape == (68, 32)


def test_finished_segment_is_not_trained_again(corpus: Path) -> None:
    first = train_segment(job(corpus, 0, 3))
    told: list[object] = []
    again = train_segment(job(corpus, 0, 3), on_step=told.append)
    assert again == replace(first, reused=True) and not told


def test_unfinished_segment_is_trained_again(corpus: Path) -> None:
    whole = train_segment(job(corpus, 0, 3))
    before = weights(whole)
    (Path(whole.state) / "done.json").unlink()
    again = train_segment(job(corpus, 0, 3))
    assert same(before, weights(again))


def test_fork_leaves_the_trunk_alone(corpus: Path) -> None:
    trunk = train_segment(job(corpus, 0, 3))
    before = weights(trunk)
    cooled = job(corpus, 3, 6, trunk)
    cooled = replace(cooled, run=cooled.run.model_copy(update={"schedule": {
        "shape": "linear", "initial": 0.9, "final": 0.0, "hold": 0.0, "end": 0.5}}))  # fmt: skip
    fork = train_segment(cooled)
    on = train_segment(job(corpus, 3, 6, trunk))
    assert fork.state != on.state and fork.achieved_words < on.achieved_words
    assert same(before, weights(trunk))


def test_key_depends_on_what_decides_the_result(corpus: Path) -> None:
    from raystt.corpus.card import Card

    card = Card.load(corpus)
    key = segment_key(job(corpus, 0, 3), card, 1)
    assert key == segment_key(job(corpus, 0, 3, log_every=5), card, 1)
    others = [
        segment_key(job(corpus, 0, 3), card, 2),
        segment_key(job(corpus, 0, 2), card, 1),
        segment_key(job(corpus, 0, 3, learning_rate=2e-3), card, 1),
        segment_key(replace(job(corpus, 0, 3), parent="states/other"), card, 1),
    ]
    assert len({key, *others}) == 5


def test_damaged_state_is_refused(corpus: Path) -> None:
    first = train_segment(job(corpus, 0, 3))
    victim = next((Path(first.state) / "engine" / "engine").iterdir())
    victim.unlink()
    with pytest.raises(CheckpointError, match=victim.name):
        train_segment(job(corpus, 3, 6, first))


def test_divergence_is_a_result(corpus: Path) -> None:
    result = train_segment(job(corpus, 0, 6, learning_rate=1e30, gradient_clipping=0.0, warmup=0.0))
    assert result.status == "diverged"
    assert result.diverged_at is not None and not math.isfinite(result.loss)


def test_plan_covers_the_horizon() -> None:
    for steps in (1, 7, 350):
        for count in range(1, min(steps, 9) + 1):
            borders = plan(steps, count)
            assert borders[0][0] == 0 and borders[-1][1] == steps
            assert all(a[1] == b[0] for a, b in zip(borders, borders[1:], strict=False))
