"""Watch a search from a thread: what is done, what runs, what was lost, and when to give up.

It outlives what it watches: a broker or a dispatcher that is being started again is asked later.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import suppress

import ray

from raystt.config import OBJECTIVES, SearchConfig
from raystt.pools.broker import Activity
from raystt.pools.growth import Growth
from raystt.pools.placing import Waiting
from raystt.ranking import best
from raystt.results import Result, parts
from raystt.searching.ledger import Ledger
from raystt.searching.measure import Pools
from raystt.searching.progress import Ended, LanguageProgress, Running, Snapshot
from raystt.searching.room import Room
from raystt.searching.searcher import StudySearcher

_SNAPSHOT_SECONDS = 1.0
_LOOK_SECONDS = 5.0
_ANSWER_SECONDS = 10.0


class Watch:
    """A thread that looks at pools, storage and studies, tells the progress, and stops the search.

    Args:
        search: The search.
        ledger: Its results.
        room: Looks at its storage.
        pools: Its broker and dispatcher.
        growth: How large they are; looks for nodes that joined.
        searcher: Is held back while the storage has no room, and stopped when
            `resources.patience` is over for that, or for lost workers.
        on_progress: Told of the search every second.
        on_message: Told single events.
    """

    def __init__(
        self,
        search: SearchConfig,
        ledger: Ledger,
        room: Room,
        pools: Pools,
        growth: Growth,
        searcher: StudySearcher,
        on_progress: Callable[[Snapshot], None],
        on_message: Callable[[str], None],
    ) -> None:
        self._search, self._ledger, self._room, self._pools = search, ledger, room, pools
        self._growth, self._searcher = growth, searcher
        searcher.concurrent = growth.concurrent
        self._on_progress, self._on_message = on_progress, on_message
        self._began = time.time()
        self._stepped: float | None = None
        self._before = {(r.language, r.trial) for r in ledger.finished()}
        self._restarts = 0
        self._looked = 0.0
        self._held_since: float | None = None
        self._waiting = Waiting(growth.resources, on_message)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._loop, daemon=True)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if kind is None:  # otherwise the pools may be gone
            with suppress(ray.exceptions.RayError):
                self._tell()

    def _loop(self) -> None:
        while not self._ended.wait(_SNAPSHOT_SECONDS):
            try:
                with suppress(ray.exceptions.RayError, OSError):
                    self._tell()
                    if time.monotonic() - self._looked >= _LOOK_SECONDS:
                        self._looked = time.monotonic()
                        self._look_at_storage()
                        self._look_at_workers()
            except Exception as error:
                # Without its watch a search would wait for ever for what does not come back.
                self._searcher.stop(f"its watch failed: {type(error).__name__}: {error}")
                raise

    def _look_at_storage(self) -> None:
        """Hold the searcher back while there is no room for another trial's states."""
        finished = self._ledger.finished()
        newest = finished[-1].states[-1] if finished else None
        short = self._room.short(newest, self._growth.resources.trainers)
        self._searcher.held = short or ""
        if short is None:
            if self._held_since is not None:
                self._on_message("the storage has room again; the search goes on")
            self._held_since = None
            return
        if self._held_since is None:
            self._held_since = time.monotonic()
            self._on_message(f"no new trial is started: {short}")
        elif time.monotonic() - self._held_since > self._search.base.resources.patience:
            self._searcher.stop(f"{short}; resources.patience is over")

    def _look_at_workers(self) -> None:
        """Use nodes that joined; tell of lost workers, and give up when none of a kind is left."""
        self._growth.look()
        self._searcher.concurrent = self._growth.concurrent
        pools = self._pools
        for pool in (pools.broker, pools.dispatcher):
            absences, alive = ray.get(
                [pool.absences.remote(), pool.alive.remote()], timeout=_ANSWER_SECONDS
            )
            cause = self._waiting.look(absences, of=alive)
            if cause is not None:
                self._searcher.stop(cause)
                # Trials that wait for one of them would wait for ever.
                ray.get([p.give_up.remote(cause) for p in (pools.broker, pools.dispatcher)],
                        timeout=_ANSWER_SECONDS)  # fmt: skip

    def _tell(self) -> None:
        finished, objective = self._ledger.finished(), self._search.objective
        ended = [
            Ended(r.label, r.status, r.schedule.label(), r.value(objective))
            for r in finished
            if (r.language, r.trial) not in self._before
        ]
        running, now = self._running(), time.time()
        if self._stepped is None and any(slot.done for slot in running):
            self._stepped = now
        names = self._search.languages
        self._on_progress(
            Snapshot(
                elapsed_s=now - self._began,
                languages=tuple(self._language(name, finished) for name in names),
                running=running,
                ended=tuple(ended),
                failed=len(self._searcher.failures),
                parallel=self._growth.resources.trainers,
                score=OBJECTIVES[objective],
                stepping_s=None if self._stepped is None else now - self._stepped,
                confirmations=sum(map(self._search.confirmations_of, names)),
            )
        )
        restarts = ray.get(self._pools.broker.restarts.remote(), timeout=_ANSWER_SECONDS)
        if restarts > self._restarts:
            self._restarts = restarts
            self._on_message("a trainer was lost; its segment is trained again")

    def _language(self, name: str, finished: list[Result]) -> LanguageProgress:
        mine = [r for r in finished if r.language == name]
        objective = self._search.objective
        winner = best(mine, objective)
        return LanguageProgress(
            language=name,
            done=len(mine),
            total=self._search.trials_of(name),
            best=winner.value(objective) if winner else None,
            best_schedule=winner.schedule.label() if winner else "",
        )

    def _running(self) -> tuple[Running, ...]:
        training = ray.get(self._pools.broker.activity.remote(), timeout=_ANSWER_SECONDS)
        evaluating = ray.get(self._pools.dispatcher.activity.remote(), timeout=_ANSWER_SECONDS)
        known = self._searcher.running()

        def show(pool: str, activity: Activity) -> Running:
            language, number, seed = parts(activity.label)
            proposal, step = known.get(activity.label), activity.step
            label = "" if seed is None else f"seed {seed}"
            if proposal is not None:
                run = self._search.run_for(language, proposal.overrides)
                label = run.schedule.label()
            return Running(
                pool=pool, language=language, trial=number, schedule=label,
                done=step.step if step else 0, total=step.horizon if step else 0,
                ratio=step.ratio if step else None, loss=step.loss if step else None,
            )  # fmt: skip

        return (
            *(show("train", a) for a in training),
            # A ceiling is being measured where there is no number: it is nobody's trial.
            *(show("evaluate", a) for a in evaluating if "#" in a.label),
        )
