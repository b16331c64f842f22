"""A segment that was broken off goes on from its last checkpoint, to the bit."""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_corpus, tiny_run

from raystt.training.jobs import Preempted, SegmentJob, SegmentResult, Step, whole_run
from raystt.training.segment import train_segment
from raystt.training.states import Checkpoints, sweep

pytestmark = pytest.mark.slow


class Killed(BaseException):
    """What a kill leaves: nothing of it is caught."""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "corpus"
    tiny_corpus(path)
    return path


def weights(result: SegmentResult) -> dict[str, torch.Tensor]:
    return load_file(result.model / "model.safetensors")


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def without_times(result: SegmentResult) -> dict[str, object]:
    left = asdict(result)
    return {k: v for k, v in left.items() if k not in ("seconds", "setup_seconds", "state")}


class Trainer:
    """Trains a run of six steps and dies before one of them; remembers which it did."""

    def __init__(self, corpus: Path, directory: Path, every: int | None = 2) -> None:
        self.directory = directory
        self.job = whole_run(tiny_run(corpus, checkpoint_every=every), corpus, directory)
        self.done: list[int] = []
        self.checkpoints = 0

    def train(self, *, dies_after: int = 0, ends_after: int = 0) -> SegmentResult:
        self.done = []

        def on_step(step: Step) -> None:
            self.done.append(step.step)
            if step.step == dies_after:
                raise Killed

        def on_checkpoint() -> None:
            self.checkpoints += 1

        return train_segment(
            self.job, on_step=on_step, on_checkpoint=on_checkpoint,
            ending=lambda: self.done[-1] == ends_after,
        )  # fmt: skip

    def left(self) -> list[Path]:
        return sorted((self.directory / "states").glob("*-*"))

    def logged(self) -> list[int]:
        return [json.loads(line)["step"] for line in (self.directory / "train.jsonl").open()]


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> SegmentResult:
    return Trainer(corpus, tmp_path_factory.mktemp("run"), every=None).train()


def cut(checkpoint: Path) -> None:
    largest = max(checkpoint.rglob("*.pt"), key=lambda path: path.stat().st_size)
    largest.write_bytes(largest.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("damaged", "first"), [(0, 5), (1, 3), (2, 1)], ids=["whole", "last cut", "both cut"]
)
def test_what_was_killed_goes_on_from_its_last_checkpoint(
    corpus: Path, tmp_path: Path, undisturbed: SegmentResult, damaged: int, first: int
) -> None:
    trainer = Trainer(corpus, tmp_path)
    with pytest.raises(Killed):
        trainer.train(dies_after=5)
    assert [path.name.rpartition("-")[2] for path in trainer.left()] == ["2", "4"]
    assert trainer.checkpoints == 2
    for checkpoint in trainer.left()[2 - damaged :]:
        cut(checkpoint)
    result = trainer.train()
    assert trainer.done == list(range(first, 7))
    assert same(weights(result), weights(undisturbed))
    assert without_times(result) == without_times(undisturbed)
    assert trainer.logged() == [1, 2, 3, 4, 5, 6]
    assert trainer.left() == []


def test_what_is_to_end_saves_a_checkpoint_first(
    corpus: Path, tmp_path: Path, undisturbed: SegmentResult
) -> None:
    trainer = Trainer(corpus, tmp_path, every=None)
    for last, did in ((3, [1, 2, 3]), (4, [4])):
        with pytest.raises(Preempted, match=rf"after step {last} of 6"):
            trainer.train(ends_after=last)
        assert trainer.done == did
    result = trainer.train()
    assert trainer.done == [5, 6] and same(weights(result), weights(undisturbed))
    assert without_times(result) == without_times(undisturbed)
    assert trainer.logged() == [1, 2, 3, 4, 5, 6]


def test_a_checkpoint_needs_no_parent(corpus: Path, tmp_path: Path) -> None:
    """And a later segment, a branch too, has its own."""
    run = tiny_run(corpus)
    first = train_segment(SegmentJob(run, str(corpus), 0, 3, None, str(tmp_path / "states")))
    for cooldown in (False, True):
        job = SegmentJob(
            run, str(corpus), 3, 6, first.state, str(tmp_path / "states"), cooldown=cooldown
        )
        whole = train_segment(job)
        expected = weights(whole)
        shutil.rmtree(whole.state)
        steps = iter([False, True])
        with pytest.raises(Preempted):
            train_segment(job, ending=lambda steps=steps: next(steps))
        aside = shutil.move(first.state, tmp_path / "aside")
        assert same(weights(train_segment(job)), expected)
        shutil.move(aside, first.state)


def test_two_checkpoints_are_kept_and_a_finished_segment_has_none(
    corpus: Path, tmp_path: Path
) -> None:
    trainer = Trainer(corpus, tmp_path, every=1)
    with pytest.raises(Killed):
        trainer.train(dies_after=5)
    assert [path.name.rpartition("-")[2] for path in trainer.left()] == ["3", "4"]
    copied = [(path, tmp_path / path.name) for path in trainer.left()]
    for path, copy in copied:
        shutil.copytree(path, copy)
    result = trainer.train()
    for path, copy in copied:  # a kill between the last rename and their end leaves them there
        shutil.copytree(copy, path)
    (tmp_path / "states" / "abc.1.partial").mkdir()
    sweep(tmp_path / "states")
    assert [path.name for path in (tmp_path / "states").iterdir()] == [Path(result.state).name]


def test_two_trials_of_one_segment_have_their_own_checkpoints(corpus: Path, tmp_path: Path) -> None:
    first, second = Trainer(corpus, tmp_path), Trainer(corpus, tmp_path)
    second.job = replace(second.job, log=str(tmp_path / "other"))
    for trainer in (first, second):
        with pytest.raises(Killed):
            trainer.train(dies_after=3)
        assert trainer.done == [1, 2, 3]
    assert len(first.left()) == 2
    result = first.train()
    assert first.done == [3, 4, 5, 6] and len(first.left()) == 1
    assert second.train() == replace(result, reused=True)
    assert second.done == [] and second.left() == []


def test_checkpoints_are_in_the_order_of_their_steps(tmp_path: Path) -> None:
    mine, other = (Checkpoints(tmp_path / "abc", trial) for trial in ("es-001", "es-002"))
    for path in (mine.at(9), mine.at(10), mine.at(11), other.at(3)):
        path.mkdir()
    mine.drop(keep=2)
    left = {mine.at(10), mine.at(11), other.at(3)}
    assert set(tmp_path.iterdir()) == left and len({path.name for path in left}) == 3
    mine.drop()
    assert list(tmp_path.iterdir()) == [other.at(3)]


def test_a_finished_run_is_verified_and_mended(
    corpus: Path, tmp_path: Path, undisturbed: SegmentResult
) -> None:
    trainer = Trainer(corpus, tmp_path)
    model = trainer.train().model
    assert trainer.train().reused and trainer.done == []
    (model / "model.safetensors").write_bytes(b"0123456789")
    assert same(weights(trainer.train()), weights(undisturbed))
    assert trainer.done == [1, 2, 3, 4, 5, 6]
