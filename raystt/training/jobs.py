"""What is asked of a trainer and what it answers. Imports no torch: those who ask start fast."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from raystt import remote
from raystt.config import RunConfig
from raystt.errors import BadInput
from raystt.schedule import DECIMALS

_LOG = logging.getLogger(__name__)
LOG = "train.jsonl"
"""Name of the log of a run's steps, JSON lines."""
STATES, MODEL = "states", "model"
"""Folder of a run's states, and of the model in each."""

_TEXT_IN_COOLDOWN = 0.5  # share of its steps


@dataclass(frozen=True)
class SegmentJob:
    """What a trainer needs to know to train a segment.

    Attributes:
        run: The whole run's config; its schedule and `training.steps` fix the ratio of each step.
        corpus: Directory of the prepared corpus.
        start: First optimiser step of the segment.
        stop: Step after the last.
        parent: State directory at `start`; None = the base model.
        states: Directory under which the result is written.
        log: Directory of `train.jsonl` and the TensorBoard file; None = no log.
        cooldown: Whether this is a branch of the run, made to see where it stands: text and
            learning rate fall from what they are at `start` to 0.
    """

    run: RunConfig
    corpus: str
    start: int
    stop: int
    parent: str | None
    states: str
    log: str | None = None
    cooldown: bool = False

    def ratios(self) -> npt.NDArray[np.float64]:
        """Return the text ratios of source and target at each step.

        In a branch the text is gone after half of it: what is scored speaks without.

        Returns:
            float64 [`stop` - `start`, 2].
        """
        horizon, sides = self.run.training.steps, self.run.schedule.sides()
        if not self.cooldown:
            return np.stack([one.values(self.start, self.stop, horizon) for one in sides], axis=1)
        done = np.arange(self.stop - self.start) / (self.stop - self.start)
        left = np.maximum(0.0, 1.0 - done / _TEXT_IN_COOLDOWN)
        before = [one.ratio(self.start / horizon) for one in sides]
        return np.round(left[:, None] * before, DECIMALS)


def whole_run(run: RunConfig, corpus: Path, directory: Path) -> SegmentJob:
    """Return a run of its own as one segment.

    Args:
        run: The run.
        corpus: Directory of the prepared corpus.
        directory: Directory of the run; gets `states/`, `train.jsonl` and TensorBoard events.
    """
    return SegmentJob(
        run=run, corpus=str(corpus), start=0, stop=run.training.steps, parent=None,
        states=str(directory / STATES), log=str(directory),
    )  # fmt: skip


@dataclass(frozen=True)
class SegmentResult:
    """Outcome of a segment; `state` holds `model/` and, before the horizon, `engine/`.

    `status` is "complete", "diverged" (the loss was not finite at `diverged_at`) or "unfinished": a
    checkpoint within the segment, without a model. `seconds` is the time of the steps,
    `setup_seconds` what came before and after them. `reused` says that the state was found and not
    trained now.
    """

    state: str
    status: str
    start: int
    stop: int
    seconds: float
    setup_seconds: float
    tokens: int
    loss: float
    achieved_words: float
    achieved_tokens: float
    diverged_at: int | None = None
    reused: bool = False

    @property
    def model(self) -> Path:
        """The exported model's directory."""
        return Path(self.state) / MODEL


@dataclass(frozen=True)
class Step:
    """What is told about a step while a segment runs."""

    step: int
    horizon: int
    ratio: float
    achieved: float
    loss: float
    tokens: int
    seconds: float


def plan(steps: int, segments: int) -> list[tuple[int, int]]:
    """Cut `steps` into (start, stop) of `segments` nearly equal segments."""
    borders = [round(i * steps / segments) for i in range(segments + 1)]
    return list(zip(borders[:-1], borders[1:], strict=True))


class Preempted(RuntimeError):
    """A segment was broken off because its process is to end; what was trained of it is saved."""


class StateLost(RuntimeError):
    """A state that is needed is damaged, gone, or cannot be continued from any more.

    What was left of it has been discarded, so that its segment is trained again when it is asked
    for: see `Segments.rewind`.

    Args:
        state: Its directory.
        damage: What is wrong with it.
    """

    def __init__(self, state: str, damage: str) -> None:
        super().__init__(state, damage)  # both: so it can be pickled
        self.state = state
        self.damage = damage

    def __str__(self) -> str:
        return f"{self.state}: {self.damage}"


class CheckpointError(BadInput):
    """A state that training it again cannot mend; the text names the place and the fix."""


class Segments:
    """The segments of a run, one after the other, and again from where a state was lost.

    Args:
        run: The run.
        corpus: Directory of the prepared corpus.
        states: Directory of all states.
        log: Directory of `train.jsonl` and TensorBoard events.
        segments: (start, stop) of each.

    Attributes:
        finished: Results of those that are there, in order.
    """

    def __init__(
        self,
        run: RunConfig,
        corpus: Path,
        states: Path,
        log: Path,
        segments: Sequence[tuple[int, int]],
    ) -> None:
        self.finished: list[SegmentResult] = []
        self._run, self._segments = run, segments
        self._corpus, self._states, self._log = str(corpus), str(states), str(log)
        self._lost: Counter[str] = Counter()

    def next_job(self) -> SegmentJob | None:
        """Return what to train next; None at the horizon, or when the run has diverged."""
        last = self.finished[-1] if self.finished else None
        if len(self.finished) == len(self._segments) or (last and last.status == "diverged"):
            return None
        start, stop = self._segments[len(self.finished)]
        return SegmentJob(
            run=self._run,
            corpus=self._corpus,
            start=start,
            stop=stop,
            parent=last.state if last else None,
            states=self._states,
            log=self._log,
        )

    def done(self, result: SegmentResult) -> None:
        """Take the result of the job that was asked for last, and its log from where it ran."""
        remote.get(Path(self._log) / LOG)
        self.finished.append(result)

    def rewind(self, lost: StateLost) -> None:
        """Go back to before a state of these segments that was lost.

        Raises:
            CheckpointError: It was lost for the third time.
            StateLost: It is none of these.
        """
        keys = [Path(result.state).name for result in self.finished]
        key = Path(lost.state).name
        if key not in keys:
            raise lost
        self._lost[key] += 1
        if self._lost[key] == 3:
            raise CheckpointError(
                f"{lost}, for the third time; what is written there does not last: look at the "
                "file system, and at who else writes there"
            )
        _LOG.warning("%s; discarded, to be trained again", lost)
        del self.finished[keys.index(key) :]
