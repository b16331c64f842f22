"""Who evaluates what: each evaluation goes to an evaluator that is idle.

Ray restarts an actor that dies; its evaluation goes to the next that is free, at most `_ATTEMPTS`
times. An actor whose evaluation has made no progress for `resources.patience` seconds is ended: a
recogniser that hangs answers nobody.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import ray

from raystt.evaluation.jobs import CeilingJob, EvaluationJob
from raystt.pools.broker import Absence, Activity, Served, unlisted
from raystt.pools.errors import Interrupted, JobFailed, said

REST_SECONDS = 0.5
"""How long evaluators that are let go may answer yet: a search that is terminated has three."""

_ATTEMPTS = 3
_PULSE_SECONDS = 10.0


@dataclass
class _Place:
    """An evaluator, what it does, and when it was last seen alive and seen to move on."""

    evaluator: Any
    pulse: asyncio.Future[None] | None = None
    dismissed: bool = False
    label: str | None = None
    heard: int = 0
    seen: float = field(default_factory=time.monotonic)
    moved: float = field(default_factory=time.monotonic)
    asked: asyncio.Future[Any] | None = None


class Dispatcher:
    """Async actor that gives each evaluation to an idle evaluator, in the order they came.

    Like the broker's, its state can be lost: it is started again with the same evaluators.
    """

    def __init__(self, evaluators: list[str], patience: float) -> None:
        self._patience = patience
        self._places: dict[str, _Place] = {}
        self._asked: list[
            tuple[tuple[str, EvaluationJob | CeilingJob], asyncio.Future[Served]]
        ] = []
        self._idle: asyncio.Queue[_Place] = asyncio.Queue()
        self._given_up: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._take(evaluators)

    def __repr__(self) -> str:
        return "evaluators' dispatcher"

    def _take(self, evaluators: list[str]) -> None:
        for name in evaluators:
            if name not in self._places:
                # A dispatcher that starts again is told first of some that have ended since.
                with suppress(ValueError):
                    place = self._places[name] = _Place(ray.get_actor(name))
                    place.pulse = asyncio.ensure_future(self._feel(place))
                    self._idle.put_nowait(place)

    @unlisted
    async def introduce(self, evaluators: list[str]) -> None:
        """Take the evaluators that are new, and let go of those that are no longer named.

        Those are asked no more: of each question that their end cuts off, Ray tells users.
        """
        self._take(evaluators)
        gone = [self._places.pop(name) for name in list(self._places) if name not in evaluators]
        for place in gone:
            place.dismissed = True
            if place.pulse is not None:
                place.pulse.cancel()
        open_ = [p.asked for p in gone if p.asked is not None and not p.asked.done()]
        if open_:
            await asyncio.wait(open_, timeout=REST_SECONDS)

    async def run(self, job: EvaluationJob | CeilingJob, label: str) -> Served:
        """Have a model evaluated, or a ceiling measured.

        What is asked for again, by a trial whose actor was lost and came back, is done once.

        Raises:
            JobFailed: The evaluation's own error, or its evaluator died too often.
            StateLost: The model must be trained again.
            Interrupted: The storage took nothing, or no evaluator came back.
        """
        asked = next((task for key, task in self._asked if key == (label, job)), None)
        if asked is None:
            asked = asyncio.ensure_future(self._run(job, label))
            entry = (label, job), asked
            self._asked.append(entry)
            asked.add_done_callback(lambda _: self._asked.remove(entry))
        return await asyncio.shield(asked)

    async def _run(self, job: EvaluationJob | CeilingJob, label: str) -> Served:
        waited, attempts = 0.0, 0
        while attempts < _ATTEMPTS:
            began = time.monotonic()
            place = await self._or_given_up(self._idle.get())
            waited += time.monotonic() - began
            if place.dismissed:
                continue
            place.label, place.moved = label, time.monotonic()
            try:
                evaluate = place.evaluator.evaluate.options(name=f"Evaluator.evaluate {label}")
                return Served(await self._or_given_up(evaluate.remote(job)), waited)
            except ray.exceptions.RayError as error:
                if found := said(error):
                    raise found from None
                if isinstance(error, ray.exceptions.RayTaskError):
                    # It may be its process that is broken, as after an error of CUDA.
                    await self._restart(place)
                last = str(getattr(error, "cause", error)).strip().splitlines()[0]
                attempts += not place.dismissed
            finally:
                place.label = None
                asyncio.ensure_future(self._free(place))
        raise JobFailed(f"{label}: evaluators failed {_ATTEMPTS} times ({last})")

    async def _restart(self, place: _Place) -> None:
        """End an evaluator's process, which Ray starts again, and wait until it is gone."""
        ray.kill(place.evaluator, no_restart=False)
        ping = place.evaluator.ping.options(max_task_retries=0)
        with suppress(ray.exceptions.RayError):
            for _ in range(100):
                await ping.remote()
                await asyncio.sleep(0.1)

    async def _free(self, place: _Place) -> None:
        """Let an evaluator take the next job, once it is there."""
        with suppress(ray.exceptions.RayError):
            await place.evaluator.ping.remote()
        self._idle.put_nowait(place)

    async def _or_given_up(self, awaited: Any) -> Any:
        """Wait for something, or until all is given up."""
        task = asyncio.ensure_future(awaited)
        await asyncio.wait([task, self._given_up], return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        task.cancel()
        raise Interrupted(self._given_up.result())

    async def _feel(self, place: _Place) -> None:
        """Ask an evaluator again and again how far it is; end one that makes no progress."""
        while True:
            asked = place.asked = asyncio.ensure_future(_reply(place.evaluator.ping.remote()))
            while not asked.done():
                await asyncio.wait([asked], timeout=_PULSE_SECONDS)
                now, heard = time.monotonic(), asked.result() if asked.done() else None
                # One that has a job is there: were it lost, the job would have been.
                if heard is not None or place.label is not None:
                    place.seen = now
                if place.label is None or (heard is not None and heard != place.heard):
                    place.heard, place.moved = heard or 0, now
                elif now - place.moved > self._patience:
                    place.moved = now
                    ray.kill(place.evaluator, no_restart=False)
            await asyncio.sleep(_PULSE_SECONDS)

    @unlisted
    async def activity(self) -> list[Activity]:
        """Return what is being evaluated."""
        labels = [place.label for place in self._places.values()]
        return [Activity(label, None) for label in labels if label is not None]

    @unlisted
    async def absences(self) -> list[Absence]:
        """Return the evaluators that have not answered for a while."""
        now = time.monotonic()
        return [
            Absence(f"evaluator {number}", now - place.seen, "")
            for number, place in enumerate(self._places.values())
            if now - place.seen > 3 * _PULSE_SECONDS
        ]

    @unlisted
    async def alive(self) -> int:
        """Return the number of evaluators that are there or are being started."""
        return len(self._places)

    async def give_up(self, cause: str) -> None:
        """Interrupt all that is asked for, now and later."""
        if not self._given_up.done():
            self._given_up.set_result(cause)


async def _reply(pending: Any) -> Any:
    """Return what an actor answers, None if it died."""
    try:
        return await pending
    except ray.exceptions.RayError:
        return None
