"""Train one run of a search through the pools, score it, and make a `Result` of what came of it."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import ray

from raystt import remote
from raystt.config import EvaluationConfig, SearchConfig
from raystt.evaluation.jobs import Evaluation, EvaluationJob
from raystt.files import storage_error
from raystt.pools.broker import served
from raystt.pools.errors import JobFailed, StorageLost
from raystt.results import METRICS, Proposal, Result
from raystt.training.jobs import SegmentJob, SegmentResult, Segments, StateLost, plan

_AT_ONCE = 64
_STORAGE_SECONDS = 5.0
_STORAGE_LOSSES = 3  # of one trial

T = TypeVar("T")


@dataclass(frozen=True)
class Pools:
    """Handles of the broker and the dispatcher, and where things lie."""

    broker: Any
    dispatcher: Any
    corpus: str
    states: str
    trials: str


@contextmanager
def at_once(pools: Pools) -> Iterator[tuple[ThreadPoolExecutor, threading.Event]]:
    """Return threads for `measure`, which only wait, and what tells them that the search ends."""
    ending = threading.Event()
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as waiting:
        try:
            yield waiting, ending
        except BaseException as error:
            ending.set()
            waiting.shutdown(wait=False, cancel_futures=True)
            for pool in (pools.broker, pools.dispatcher):
                pool.give_up.remote(str(error) or type(error).__name__)
            raise


def measure(
    search: SearchConfig,
    pools: Pools,
    proposal: Proposal,
    splits: Sequence[str],
    ending: threading.Event,
) -> Iterator[Result]:
    """Train a trial outside of Tune, as far as its states are not found, and score it on splits.

    Raises:
        JobFailed: It cannot be trained or scored.
        CheckpointError: Its state is lost again and again.
        Interrupted: The pools are gone, or the storage takes nothing.
    """
    one = Measurement(search, pools, proposal, ending)
    for split in splits:
        began, one.waited = time.time(), 0.0
        evaluation = one.undisturbed(partial(one.evaluate, split))
        yield one.result(split, evaluation, started=began, ended=time.time(), overhead=0.0)


class Measurement:
    """One run of a search: its segments, its scores, and what it waits for meanwhile.

    Args:
        search: The search.
        pools: Its pools.
        proposal: What is trained.
        ending: Set where the search ends, and nobody waits for this any more.

    Attributes:
        run: The run.
        segments: What it is trained in.
        waited: Seconds in the queues of the pools.
        busy: Seconds in which a worker worked on it.
    """

    def __init__(
        self, search: SearchConfig, pools: Pools, proposal: Proposal, ending: threading.Event
    ) -> None:
        self.run = search.run_for(proposal.language, proposal.overrides, seed=proposal.seed)
        self.waited = self.busy = 0.0
        self._proposal, self._pools, self._ending = proposal, pools, ending
        self._trial = Path(pools.trials) / proposal.folder
        steps, self._losses = self.run.training.steps, 0
        self.segments = Segments(
            self.run, Path(pools.corpus), Path(pools.states), self._trial,
            plan(steps, min(search.fidelity.segments, steps)),
        )  # fmt: skip

    def undisturbed(self, work: Callable[[], T]) -> T:
        """Do some work, again where a state or the storage is lost meanwhile.

        A storage that is lost is waited for, `resources.patience` seconds and three times at most:
        a disk that is full for a model has room for a probe, and would be full again.
        """
        while True:
            try:
                return work()
            except StateLost as lost:
                self.segments.rewind(lost)
            except (JobFailed, ray.exceptions.RayError):
                raise
            except Exception as error:
                if not (unwritten(error) and self._storage_came_back()):
                    raise

    def begin(self, job: SegmentJob) -> Any:
        """Ask for a segment, and return what Ray gives for it."""
        return self._pools.broker.run.remote(job, self._proposal.label)

    def end(self, begun: Any) -> None:
        """Wait for a segment."""
        segment: SegmentResult = self._answer(begun)
        if not segment.reused:  # a state that was found took nothing
            self.busy += segment.seconds
        self.segments.done(segment)

    def evaluate(self, split: str) -> Evaluation | None:
        """Train what is not trained yet, score it, and write its hypotheses; None = it diverged."""
        while (job := self.segments.next_job()) is not None:
            self.end(self.begin(job))
        last = self.segments.finished[-1]
        if last.status == "diverged":
            return None
        asked = EvaluationJob(
            model=str(last.model), language=self.run.language, split=split,
            config=self.run.evaluation, interleaving=self.run.interleaving,
        )  # fmt: skip
        evaluation: Evaluation = self._answer(
            self._pools.dispatcher.run.remote(asked, self._proposal.label)
        )
        self.busy += evaluation.seconds
        evaluation.write(self._trial)
        return evaluation

    def _answer(self, asked: Any) -> Any:
        answer = served(asked)
        self.waited += answer.wait_seconds
        return answer.result

    def _storage_came_back(self) -> bool:
        """Wait until the storage takes data again; say whether it did, in time and not in vain."""
        self._losses += 1
        if self._losses == _STORAGE_LOSSES:
            return False
        limit = time.monotonic() + self.run.resources.patience
        while time.monotonic() < limit and not self._ending.wait(_STORAGE_SECONDS):
            if remote.unwritable(Path(self._pools.states)) is None:
                return True
        return False

    def result(
        self, split: str, evaluation: Evaluation | None, *, started: float, ended: float,
        overhead: float,
    ) -> Result:  # fmt: skip
        """Return the result of the run; without an evaluation it diverged, which scores 0.

        Args:
            split: Split that was evaluated.
            evaluation: What came of it.
            started: When the trial began, Unix seconds.
            ended: When it ended.
            overhead: Seconds that were neither work nor waiting.
        """
        trained, steps = self.segments.finished, self.run.training.steps
        last = trained[-1]
        reached = last.stop if last.diverged_at is None else last.diverged_at
        weights = [s.stop - s.start for s in trained]
        values: dict[str, Any] = {
            "asr_bleu": 0.0, "asr_bleu_low": 0.0, "asr_bleu_high": 0.0, "signature": "",
            "sentences": 0, "truncated": 0.0, "signatures": {}, **dict.fromkeys(METRICS),
        }  # fmt: skip
        if evaluation is not None:
            values |= _scored(evaluation, self.run.evaluation)
        return Result(
            **self._proposal.identity(),
            split=split,
            status="diverged" if evaluation is None else "complete",
            schedule=self.run.schedule,
            step=reached,
            steps=steps,
            loss=last.loss if math.isfinite(last.loss) else None,
            ratio=float(self.run.schedule.ratio(max(reached - 1, 0) / steps)),
            achieved_words=sum(s.achieved_words * w for s, w in zip(trained, weights, strict=True))
            / max(sum(weights), 1),
            tokens=sum(s.tokens for s in trained),
            train_seconds=sum(s.seconds for s in trained),
            setup_seconds=sum(s.setup_seconds for s in trained),
            evaluate_seconds=evaluation.seconds if evaluation else 0.0,
            wait_seconds=self.waited,
            overhead_seconds=overhead,
            started=started,
            ended=ended,
            states=tuple(Path(s.state).name for s in trained),
            **values,
        )


def unwritten(error: Exception) -> bool:
    """Whether an error is one of the storage."""
    return isinstance(error, StorageLost) or storage_error(error)


def _scored(evaluation: Evaluation, config: EvaluationConfig) -> dict[str, Any]:
    """Return the fields of a `Result` that an evaluation fills."""
    score, metrics = evaluation.score(config), evaluation.metrics()
    return {
        "asr_bleu": score.asr_bleu,
        "asr_bleu_low": score.ci[0],
        "asr_bleu_high": score.ci[1],
        "signature": score.signature,
        "sentences": score.sentences,
        "truncated": evaluation.truncated,
        "signatures": {name: evaluation.signatures[name] for name in metrics},
        **{name: metrics.get(name) for name in METRICS},
    }
