"""A Tune trial: asks the trainers for segments and the evaluators for a score.

It holds no data and no weights; its actor needs next to no CPU and serves one trial after another.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune

from raystt.config import SearchConfig
from raystt.evaluation.jobs import EvaluationJob
from raystt.pools.broker import JobFailed, Served
from raystt.searching.fidelity import Border, Promotion
from raystt.searching.study import Proposal
from raystt.training.jobs import SegmentJob, SegmentResult


@dataclass(frozen=True)
class Pools:
    """Handles of the broker and the dispatcher, and where things lie."""

    broker: Any
    dispatcher: Any
    corpus: str
    states: str
    trials: str


class Trial(tune.Trainable):
    """One schedule of one language, segment by segment."""

    def setup(self, config: dict[str, Any], pools: Pools, search: SearchConfig,
              promotion: Promotion) -> None:  # fmt: skip
        """Take a proposal; called once an actor."""
        self._pools, self._search, self._promotion = pools, search, promotion
        # The first trial of an actor waited for the actor, which is not a cost of the trial.
        self._ready = time.time()
        self._begin(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take the next proposal in the same actor."""
        self._begin(new_config)
        return True

    def _begin(self, config: dict[str, Any]) -> None:
        self._proposal = Proposal(**config["proposal"])
        proposal = self._proposal
        self._label = f"{proposal.language}#{proposal.number}"
        self._run = self._search.run_for(
            proposal.language,
            proposal.overrides,
            name=f"{self._search.name}-{proposal.language}-{proposal.number}",
        )
        self._segments = self._promotion.segments(self._run.training.steps)
        self._index = 0
        self._state: str | None = None
        self._trained: list[SegmentResult] = []
        self._waited = 0.0
        self._started = time.time()

    def step(self) -> dict[str, Any]:
        """Train one segment and, where the policy says so, score it.

        Returns:
            `record`, JSON of what is known of the trial now; Tune gets nothing else.
        """
        try:
            return self._step()
        except JobFailed as error:
            return self._report("failed", error=str(error))

    def _step(self) -> dict[str, Any]:
        start, stop = self._segments[self._index]
        job = SegmentJob(
            run=self._run,
            corpus=self._pools.corpus,
            start=start,
            stop=stop,
            parent=self._state,
            states=self._pools.states,
            log=str(self._directory()),
        )
        segment = self._ask(self._pools.broker, job)
        self._trained.append(segment)
        self._index += 1
        self._state = segment.state
        if segment.status == "diverged":
            return self._report("diverged", evaluation={
                "asr_bleu": 0.0, "ci": [0.0, 0.0], "signature": "", "sentences": 0, "seconds": 0.0,
            })  # fmt: skip
        horizon = self._run.training.steps
        scored = None
        if self._promotion.evaluated(stop, horizon):
            scored = self._evaluate(segment)
        border = Border(
            self._proposal.language, self._proposal.number, stop, horizon,
            scored["asr_bleu"] if scored else None,
        )  # fmt: skip
        if self._promotion.decide(border, ()) == "continue":
            return {"done": False}
        return self._report("complete", evaluation=scored)

    def _evaluate(self, segment: SegmentResult) -> dict[str, Any]:
        config = self._run.evaluation
        job = EvaluationJob(
            model=str(segment.model),
            corpus=self._pools.corpus,
            language=self._proposal.language,
            split=config.split,
            config=config,
            interleaving=self._run.interleaving,
        )
        evaluation = self._ask(self._pools.dispatcher, job)
        evaluation.write(self._directory() / f"hypotheses-{config.split}.jsonl")
        return {**evaluation.record(config), "seconds": evaluation.seconds}

    def _ask(self, pool: Any, job: Any) -> Any:
        """Have a pool do a job, and add up the time spent waiting for a free worker."""
        try:
            served: Served = ray.get(pool.run.remote(job, self._label))
        except ray.exceptions.RayTaskError as error:
            raise JobFailed(str(error.cause)) from None
        self._waited += served.wait_seconds
        return served.result

    def _directory(self) -> Path:
        proposal = self._proposal
        path = Path(self._pools.trials) / f"{proposal.language}-{proposal.number:03d}"
        path.mkdir(parents=True, exist_ok=True)
        return path

    def _report(
        self, status: str, evaluation: dict[str, Any] | None = None, error: str = ""
    ) -> dict[str, Any]:
        trained = self._trained
        tokens = sum(segment.tokens for segment in trained)
        record: dict[str, Any] = {
            "language": self._proposal.language,
            "trial": self._proposal.number,
            "reference": self._proposal.reference,
            "split": self._run.evaluation.split,
            "segment": [trained[-1].start, trained[-1].stop] if trained else [0, 0],
            "steps": self._run.training.steps,
            "status": status,
            "schedule": self._run.schedule.model_dump(),
            "overrides": self._proposal.overrides,
            "achieved_words": sum(s.achieved_words * (s.stop - s.start) for s in trained)
            / max(sum(s.stop - s.start for s in trained), 1),
            "train_seconds": sum(s.seconds for s in trained),
            "setup_seconds": sum(s.setup_seconds for s in trained),
            "train_tokens": tokens,
            "wait_seconds": self._waited,
            # What this trial's own work took now; a state that was found took nothing.
            "busy_seconds": sum(s.seconds for s in trained if not s.reused),
            "started": self._started,
            "ready": self._ready,
            "state": trained[-1].state if trained else None,
            "error": error,
        }
        if evaluation is not None:
            record["evaluate_seconds"] = evaluation["seconds"]
            record["busy_seconds"] += evaluation["seconds"]
            record.update({k: v for k, v in evaluation.items() if k != "seconds"})
        return {"record": json.dumps(record), "done": True}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing to save: segments and their states lie in storage under their keys."""

    def load_checkpoint(self, checkpoint: Any) -> None:
        """Start over: segments that are in storage are found there and not trained again."""
