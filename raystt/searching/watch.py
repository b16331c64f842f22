"""Watch a search from a thread: what is done, what is running, what was lost."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import ray

from raystt.config import SearchConfig
from raystt.pools.broker import Activity
from raystt.progress import Ended, LanguageProgress, Running, Snapshot
from raystt.results import Result, best
from raystt.searching.searcher import StudySearcher
from raystt.searching.trial import Pools

_SNAPSHOT_SECONDS = 1.0


class Watch:
    """A thread that looks at pools and studies and tells the progress."""

    def __init__(
        self,
        search: SearchConfig,
        finished: Callable[[], list[Result]],
        pools: Pools,
        searcher: StudySearcher,
        on_progress: Callable[[Snapshot], None],
        on_message: Callable[[str], None],
    ) -> None:
        self._search, self._finished, self._pools = search, finished, pools
        self._searcher = searcher
        self._on_progress, self._on_message = on_progress, on_message
        self._began = time.time()
        self._before = {(r.language, r.trial) for r in self._finished()}
        self._restarts = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if kind is None:  # otherwise the pools may be gone
            self._tell()

    def _loop(self) -> None:
        while not self._ended.wait(_SNAPSHOT_SECONDS):
            self._tell()

    def _tell(self) -> None:
        finished = self._finished()
        ended = [
            Ended(r.label, r.status, r.schedule.label(), r.asr_bleu)
            for r in finished
            if (r.language, r.trial) not in self._before
        ]
        self._on_progress(
            Snapshot(
                elapsed_s=time.time() - self._began,
                languages=tuple(self._language(name, finished) for name in self._search.languages),
                running=self._running(),
                ended=tuple(ended),
                failed=max(0, self._searcher.completed - len(ended)),
                parallel=self._search.base.resources.trainers,
            )
        )
        restarts = ray.get(self._pools.broker.restarts.remote())
        if restarts > self._restarts:
            self._restarts = restarts
            self._on_message("a trainer was lost and came back; its segment is trained again")

    def _language(self, name: str, finished: list[Result]) -> LanguageProgress:
        mine = [r for r in finished if r.language == name]
        winner = best(mine)
        return LanguageProgress(
            language=name,
            done=len(mine),
            total=self._search.trials_of(name),
            best=winner.asr_bleu if winner else None,
            best_schedule=winner.schedule.label() if winner else "",
        )

    def _running(self) -> tuple[Running, ...]:
        training = ray.get(self._pools.broker.activity.remote())
        evaluating = ray.get(self._pools.dispatcher.activity.remote())
        known = self._searcher.running()

        def show(pool: str, activity: Activity) -> Running:
            language, _, number = activity.label.partition("#")
            proposal, step = known.get(activity.label), activity.step
            label = ""
            if proposal is not None:
                run = self._search.run_for(language, proposal.overrides)
                label = run.schedule.label()
            return Running(
                pool=pool, language=language, trial=int(number), schedule=label,
                done=step.step if step else 0, total=step.horizon if step else 0,
                ratio=step.ratio if step else None, loss=step.loss if step else None,
            )  # fmt: skip

        return (
            *(show("train", a) for a in training),
            # A ceiling is being measured where there is no number: it is nobody's trial.
            *(show("evaluate", a) for a in evaluating if "#" in a.label),
        )
