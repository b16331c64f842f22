"""Train and score one run outside of Tune, and make a `Result` of what came of it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raystt import remote
from raystt.config import EvaluationConfig, RunConfig, SearchConfig
from raystt.evaluation.jobs import Evaluation, EvaluationJob
from raystt.pools.broker import served
from raystt.pools.errors import StorageLost
from raystt.results import METRICS, Proposal, Result
from raystt.training.jobs import SegmentResult, Segments, StateLost, plan

_AT_ONCE = 64
_STORAGE_SECONDS = 5.0
_STORAGE_LOSSES = 3  # of one trial


@dataclass(frozen=True)
class Pools:
    """Handles of the broker and the dispatcher, and where things lie."""

    broker: Any
    dispatcher: Any
    corpus: str
    states: str
    trials: str


def segments_of(search: SearchConfig, run: RunConfig, pools: Pools, proposal: Proposal) -> Segments:
    """Return the segments that a trial of a search is trained in."""
    segments = min(search.fidelity.segments, run.training.steps)
    return Segments(
        run, Path(pools.corpus), Path(pools.states), Path(pools.trials) / proposal.folder,
        plan(run.training.steps, segments),
    )  # fmt: skip


class LostStorage:
    """What a trial does whose storage took nothing: it waits.

    Args:
        states: Directory of the states.
        seconds: How long, `resources.patience`.
    """

    def __init__(self, states: str, seconds: float) -> None:
        self._states, self._seconds, self._lost = Path(states), seconds, 0

    def came_back(self) -> bool:
        """Wait until the storage takes data again; say whether it did, in time and not in vain.

        A disk that is full for a model has room for a probe: training it again would end likewise.
        """
        self._lost += 1
        if self._lost == _STORAGE_LOSSES:
            return False
        limit = time.monotonic() + self._seconds
        while time.monotonic() < limit:
            time.sleep(_STORAGE_SECONDS)
            if remote.unwritable(self._states) is None:
                return True
        return False


@contextmanager
def at_once(pools: Pools) -> Iterator[ThreadPoolExecutor]:
    """Return threads for `measure`, which only wait; what is asked for ends with an error."""
    with ThreadPoolExecutor(max_workers=_AT_ONCE) as waiting:
        try:
            yield waiting
        except BaseException as error:
            waiting.shutdown(wait=False, cancel_futures=True)
            for pool in (pools.broker, pools.dispatcher):
                pool.give_up.remote(str(error) or type(error).__name__)
            raise


def measure(
    search: SearchConfig, pools: Pools, proposal: Proposal, splits: Sequence[str]
) -> Iterator[Result]:
    """Train a trial, as far as its states are not found, and score it on some splits.

    A model that is lost meanwhile is trained again. Hypotheses are written too.

    Raises:
        JobFailed: It cannot be trained or scored.
        CheckpointError: Its state is lost again and again.
        Interrupted: The pools are gone, or the storage takes nothing.
    """
    run = search.run_for(proposal.language, proposal.overrides, seed=proposal.seed)
    segments = segments_of(search, run, pools, proposal)
    storage = LostStorage(pools.states, run.resources.patience)
    for split in splits:
        began, waited, evaluation = time.time(), 0.0, None
        while True:
            try:
                while (job := segments.next_job()) is not None:
                    answer = served(pools.broker.run.remote(job, proposal.label))
                    waited += answer.wait_seconds
                    segments.done(answer.result)
                if segments.finished[-1].status == "complete":
                    answer = served(pools.dispatcher.run.remote(
                        evaluation_job(run, segments, split), proposal.label
                    ))  # fmt: skip
                    waited += answer.wait_seconds
                    evaluation = answer.result
                break
            except StateLost as lost:
                segments.rewind(lost)
            except StorageLost:
                if not storage.came_back():
                    raise
        if evaluation is not None:
            evaluation.write(Path(pools.trials) / proposal.folder)
        yield result_of(
            proposal, run, segments.finished, split, evaluation, started=began, ended=time.time(),
            waited=waited, overhead=0.0,
        )  # fmt: skip


def evaluation_job(run: RunConfig, segments: Segments, split: str) -> EvaluationJob:
    """Return the evaluation of what was trained last."""
    return EvaluationJob(
        model=str(segments.finished[-1].model), language=run.language, split=split,
        config=run.evaluation, interleaving=run.interleaving,
    )  # fmt: skip


def result_of(
    proposal: Proposal, run: RunConfig, trained: Sequence[SegmentResult], split: str,
    evaluation: Evaluation | None, *, started: float, ended: float, waited: float, overhead: float,
) -> Result:  # fmt: skip
    """Return the result of a run; without an evaluation it diverged, which scores 0.

    Args:
        proposal: The trial.
        run: Its run.
        trained: Its segments.
        split: Split that was evaluated.
        evaluation: What came of it.
        started: When the trial began, Unix seconds.
        ended: When it ended.
        waited: Seconds in the queues of the pools.
        overhead: Seconds that were neither work nor waiting.
    """
    last, steps = trained[-1], run.training.steps
    reached = last.stop if last.diverged_at is None else last.diverged_at
    weights = [s.stop - s.start for s in trained]
    values: dict[str, Any] = {
        "asr_bleu": 0.0, "asr_bleu_low": 0.0, "asr_bleu_high": 0.0, "signature": "",
        "sentences": 0, "truncated": 0.0, "signatures": {}, **dict.fromkeys(METRICS),
    }  # fmt: skip
    if evaluation is not None:
        values |= _scored(evaluation, run.evaluation)
    return Result(
        **proposal.identity(),
        split=split,
        status="diverged" if evaluation is None else "complete",
        schedule=run.schedule,
        step=reached,
        steps=steps,
        loss=last.loss if math.isfinite(last.loss) else None,
        ratio=float(run.schedule.ratio(max(reached - 1, 0) / steps)),
        achieved_words=sum(s.achieved_words * w for s, w in zip(trained, weights, strict=True))
        / max(sum(weights), 1),
        tokens=sum(s.tokens for s in trained),
        train_seconds=sum(s.seconds for s in trained),
        setup_seconds=sum(s.setup_seconds for s in trained),
        evaluate_seconds=evaluation.seconds if evaluation else 0.0,
        wait_seconds=waited,
        overhead_seconds=overhead,
        started=started,
        ended=ended,
        states=tuple(Path(s.state).name for s in trained),
        **values,
    )


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
