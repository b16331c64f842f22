"""A run of its own: what is lost of it is trained again, to the bit."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny import tiny_corpus, tiny_run

from raystt.training.jobs import CheckpointError, SegmentJob, SegmentResult
from raystt.training.run import train_in_segments
from raystt.training.segment import train_segment
from raystt.training.states import drop_engine

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("made") / "corpus"
    tiny_corpus(path)
    return path


class Trainer:
    """Trains segments of two steps; `before` does something to the states before a job."""

    def __init__(self, corpus: Path, directory: Path) -> None:
        self.corpus, self.directory = corpus, directory
        self.asked: list[int] = []
        self.trained: list[int] = []
        self.states: dict[int, Path] = {}
        self.before: Callable[[SegmentJob], object] = lambda job: None

    def train(self, job: SegmentJob) -> SegmentResult:
        self.asked.append(job.start)
        self.before(job)
        result = train_segment(job)
        self.states[job.start] = Path(result.state)
        if not result.reused:
            self.trained.append(job.start)
        return result

    def run(self) -> SegmentResult:
        run = tiny_run(self.corpus, checkpoint_every=2)
        return train_in_segments(run, self.corpus, self.directory, self.train)


def weights(result: SegmentResult) -> dict[str, torch.Tensor]:
    return load_file(result.model / "model.safetensors")


@pytest.fixture(scope="module")
def undisturbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return weights(Trainer(corpus, tmp_path_factory.mktemp("run")).run())


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


def cut_engine(state: Path) -> None:
    shard = max((state / "engine").rglob("*.pt"), key=lambda path: path.stat().st_size)
    shard.write_bytes(shard.read_bytes()[:-1])


@pytest.mark.parametrize(
    ("lose", "states", "asked"),
    [
        (cut_engine, [2], [0, 2, 4, 2, 4]),
        (drop_engine, [2], [0, 2, 4, 2, 4]),
        (shutil.rmtree, [0, 2], [0, 2, 4, 2, 0, 2, 4]),
    ],
)
def test_what_is_lost_is_trained_again(
    corpus: Path,
    tmp_path: Path,
    undisturbed: dict[str, torch.Tensor],
    lose: Callable[[Path], object],
    states: list[int],
    asked: list[int],
) -> None:
    trainer = Trainer(corpus, tmp_path)

    def once(job: SegmentJob) -> None:
        if trainer.asked == [0, 2, 4]:
            for start in states:
                lose(trainer.states[start])

    trainer.before = once
    assert same(weights(trainer.run()), undisturbed)
    assert trainer.asked == asked
    lines = [json.loads(line) for line in (tmp_path / "train.jsonl").open()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]


def test_a_run_keeps_two_engines_and_in_the_end_none(corpus: Path, tmp_path: Path) -> None:
    trainer = Trainer(corpus, tmp_path)

    def engines() -> set[int]:
        return {start for start, state in trainer.states.items() if (state / "engine").exists()}

    seen: list[set[int]] = []
    trainer.before = lambda job: seen.append(engines())
    run = tiny_run(corpus, checkpoint_every=1)
    (tmp_path / "states" / "abc.1.partial").mkdir(parents=True)
    train_in_segments(run, corpus, tmp_path, trainer.train)
    assert seen == [set(), {0}, {0, 1}, {1, 2}, {2, 3}, {3, 4}]
    assert engines() == set()
    assert {path.name for path in (tmp_path / "states").iterdir()} == {
        state.name for state in trainer.states.values()
    }


def test_a_finished_run_is_verified_and_mended(
    corpus: Path, tmp_path: Path, undisturbed: dict[str, torch.Tensor]
) -> None:
    trainer = Trainer(corpus, tmp_path)
    model = trainer.run().model
    trainer.trained.clear()
    assert trainer.run().reused and trainer.trained == []
    (model / "model.safetensors").write_bytes(b"0123456789")
    assert same(weights(trainer.run()), undisturbed) and trainer.trained == [0, 2, 4]


def test_states_that_do_not_last_end_the_run(corpus: Path, tmp_path: Path) -> None:
    trainer = Trainer(corpus, tmp_path)
    trainer.before = lambda job: shutil.rmtree(job.parent) if job.parent else None
    with pytest.raises(CheckpointError, match="third time"):
        trainer.run()
    assert trainer.asked == [0, 2] * 3
