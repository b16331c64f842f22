"""A Tune trial: asks the trainers for segments and the evaluators for a score.

It holds no data and no weights; its actor needs next to no CPU and serves one trial after another.
"""

from __future__ import annotations

import threading
import time
import traceback
from typing import Any

import ray
from ray import tune

from raystt.config import SearchConfig
from raystt.evaluation.jobs import Evaluation
from raystt.pools.errors import Interrupted, JobFailed
from raystt.results import UNKNOWN, Proposal
from raystt.searching.measure import Measurement, Pools, unwritten
from raystt.training.jobs import CheckpointError, StateLost, Step

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

    def __repr__(self) -> str:
        """Return what Ray's dashboard calls the actor, which has one trial after the other."""
        return "trial"

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next proposal in the same actor."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._proposal = Proposal.from_config(config)
        self._measurement = Measurement(
            self._search, self._pools, self._proposal, threading.Event()
        )
        self._pending: Any = None
        self._seen: Step | None = None
        self._started = time.time()

    def step(self) -> dict[str, Any]:
        """Train, or score what is trained, until there is something to report.

        Returns:
            The fields of a `Result` under their names; None where they are not known yet.
        """
        try:
            return self._measurement.undisturbed(self._advance)
        except ray.exceptions.RayError:
            raise  # Tune tries it again
        except (CheckpointError, StateLost, JobFailed) as error:
            return self._without_score("failed", str(error))
        except Exception as error:
            if unwritten(error) or isinstance(error, Interrupted):
                return self._without_score("interrupted", str(error))
            said = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"  # nobody foresaw it
            return self._without_score("failed", said)

    def _advance(self) -> dict[str, Any]:
        while True:
            if self._pending is None:
                if (job := self._measurement.segments.next_job()) is None:
                    return self._end(
                        self._measurement.evaluate(self._measurement.run.evaluation.split)
                    )
                self._pending = self._measurement.begin(job)
            if (step := self._next_step()) is not None:
                return self._progress(step)
            pending, self._pending = self._pending, None
            self._measurement.end(pending)

    def _without_score(self, status: str, error: str) -> dict[str, Any]:
        return {**UNKNOWN, "status": status, "error": error, "done": True}

    def _next_step(self) -> Step | None:
        """Wait for the segment in training; return a step on its way there, None at its end."""
        wait = _FIRST_SECONDS if self._seen is None else REPORT_SECONDS
        while not ray.wait([self._pending], timeout=wait)[0]:
            for activity in ray.get(self._pools.broker.activity.remote()):
                new = activity.label == self._proposal.label and activity.step != self._seen
                if new and activity.step is not None:
                    self._seen = activity.step
                    return activity.step
        return None

    def _progress(self, step: Step) -> dict[str, Any]:
        """Report a step within a segment; a score follows at the horizon."""
        trained = self._measurement.segments.finished
        return {
            **UNKNOWN,
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
        one, ended = self._measurement, time.time()
        result = one.result(
            one.run.evaluation.split, evaluation, started=self._started, ended=ended,
            overhead=max(0.0, ended - self._free_since - one.busy - one.waited),
        )  # fmt: skip
        self._free_since = ended
        return {**result.report(), "error": None, "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to save: segments and their states lie in storage under their keys."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Start over: segments that are in storage are found there and not trained again."""
