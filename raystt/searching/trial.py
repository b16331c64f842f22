"""A Tune trial: asks the trainers for segments and the evaluators for a score.

It holds no data and no weights; its actor needs next to no CPU and serves one trial after another.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import ray
from ray import tune

from raystt.config import SearchConfig
from raystt.evaluation.jobs import Evaluation
from raystt.files import storage_error
from raystt.pools.broker import served
from raystt.pools.errors import Interrupted, JobFailed, StorageLost
from raystt.results import REPORTED, Proposal
from raystt.searching.measure import LostStorage, Pools, evaluation_job, result_of, segments_of
from raystt.training.jobs import (
    CheckpointError,
    SegmentJob,
    SegmentResult,
    StateLost,
    Step,
)

REPORT_SECONDS = 5.0
"""How often a trial in training tells Tune where it is."""

_FIRST_SECONDS = 1.0  # until the first time: a trial may be trained within `REPORT_SECONDS`


class Trial(tune.Trainable):
    """One schedule of one language, segment by segment."""

    def setup(self, config: dict[str, Any], pools: Pools, search: SearchConfig) -> None:
        """Take a proposal; called once an actor."""
        self._pools, self._search = pools, search
        # The first trial of an actor waited for the actor, which is not a cost of the trial.
        self._free_since = time.time()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next proposal in the same actor."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._proposal = Proposal.from_config(config)
        proposal = self._proposal
        name = f"{self._search.name}-{proposal.language}-{proposal.trial}"
        self._run = self._search.run_for(proposal.language, proposal.overrides, name=name)
        self._segments = segments_of(self._search, self._run, self._pools, proposal)
        self._pending: Any = None
        self._seen: Step | None = None
        self._waited = self._busy = 0.0
        self._wait = LostStorage(self._pools.states, self._search.base.resources.patience)
        self._started = time.time()

    def step(self) -> dict[str, Any]:
        """Train, or score what is trained, until there is something to report.

        Returns:
            The fields of a `Result` under their names; None where they are not known yet.
        """
        while True:
            try:
                return self._advance()
            except StateLost as lost:
                try:
                    self._segments.rewind(lost)
                except (CheckpointError, StateLost) as error:
                    return self._without_score("failed", error)
            except JobFailed as error:
                return self._without_score("failed", error)
            except ray.exceptions.RayError:
                raise  # Tune tries it again
            except Exception as error:
                unwritten = isinstance(error, StorageLost) or storage_error(error)
                if unwritten and self._wait.came_back():
                    continue
                if unwritten or isinstance(error, Interrupted):
                    return self._without_score("interrupted", error)
                return self._without_score("failed", f"{type(error).__name__}: {error}")

    def _advance(self) -> dict[str, Any]:
        while (job := self._segments.next_job()) is not None:
            segment = self._train(job)
            if isinstance(segment, Step):
                return self._progress(segment)
            self._segments.done(segment)
        if self._segments.finished[-1].status == "diverged":
            return self._end(None)
        return self._end(self._evaluate())

    def _without_score(self, status: str, error: Exception | str) -> dict[str, Any]:
        return {**dict.fromkeys(REPORTED), "status": status, "error": str(error), "done": True}

    def _train(self, job: SegmentJob) -> SegmentResult | Step:
        """Have a segment trained; return it, or a step on its way there."""
        if self._pending is None:
            self._pending = self._pools.broker.run.remote(job, self._proposal.label)
        wait = _FIRST_SECONDS if self._seen is None else REPORT_SECONDS
        while not ray.wait([self._pending], timeout=wait)[0]:
            for activity in ray.get(self._pools.broker.activity.remote()):
                new = activity.label == self._proposal.label and activity.step != self._seen
                if new and activity.step is not None:
                    self._seen = activity.step
                    return activity.step
        pending, self._pending = self._pending, None
        segment: SegmentResult = self._answer(pending)
        if not segment.reused:  # a state that was found took nothing
            self._busy += segment.seconds
        return segment

    def _evaluate(self) -> Evaluation:
        job = evaluation_job(self._run, self._segments, self._run.evaluation.split)
        evaluation: Evaluation = self._answer(
            self._pools.dispatcher.run.remote(job, self._proposal.label)
        )
        self._busy += evaluation.seconds
        evaluation.write(Path(self._pools.trials) / self._proposal.folder)
        return evaluation

    def _answer(self, pending: Any) -> Any:
        """Get a pool's answer, and add up the time spent waiting for a free worker."""
        answer = served(pending)
        self._waited += answer.wait_seconds
        return answer.result

    def _progress(self, step: Step) -> dict[str, Any]:
        """Report a step within a segment; a score follows at the horizon."""
        trained = self._segments.finished
        return {
            **dict.fromkeys(REPORTED),
            "status": "training",
            "loss": step.loss,
            "ratio": step.ratio,
            "achieved_words": step.achieved,
            "step": step.step,
            "steps": step.horizon,
            "tokens": sum(s.tokens for s in trained) + step.tokens,
            "train_seconds": sum(s.seconds for s in trained) + step.seconds,
            "timesteps_total": step.step,
            "error": None,
            "done": False,
        }

    def _end(self, evaluation: Evaluation | None) -> dict[str, Any]:
        """Report the finished trial; without an evaluation it diverged, which scores 0."""
        ended = time.time()
        result = result_of(
            self._proposal, self._run, self._segments.finished, self._run.evaluation.split,
            evaluation, started=self._started, ended=ended, waited=self._waited,
            overhead=max(0.0, ended - self._free_since - self._busy - self._waited),
        )  # fmt: skip
        self._free_since = ended
        return {**result.report(), "error": None, "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to save: segments and their states lie in storage under their keys."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Start over: segments that are in storage are found there and not trained again."""
