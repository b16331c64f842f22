"""Evaluator pool: persistent actors with vocoder and recogniser loaded.

Ray restarts an actor that dies; the dispatcher gives its evaluation to the next that is free, at
most `_ATTEMPTS` times. It also ends an actor whose evaluation has made no progress for
`resources.patience` seconds: a recogniser that hangs answers nobody.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray

from raystt import remote
from raystt.config import EvaluationConfig, ResourcesConfig
from raystt.errors import BadInput
from raystt.evaluation.jobs import Ceiling, CeilingJob, Evaluation, EvaluationJob
from raystt.files import remove
from raystt.hub import MODEL_CONFIG
from raystt.pools.broker import Absence, Activity, Served, unlisted
from raystt.pools.errors import Interrupted, JobFailed, answer, said
from raystt.pools.placing import Waiting, beside_driver
from raystt.training.device import device_of
from raystt.training.states import DONE, let_go, model_of

if TYPE_CHECKING:
    from raystt.evaluation.judge import Judge

_ATTEMPTS = 3
_PULSE_SECONDS = 10.0
_REST_SECONDS = 0.5  # a search that is terminated has three seconds


class Evaluator:
    """Ray actor that holds one judge, loaded when it is first needed.

    Not in `__init__`: Ray would wrap what is wrong with it in the death of the actor.
    `number` tells it from the others in Ray's dashboard.
    """

    def __init__(
        self, number: int, corpus: str, config: EvaluationConfig, resources: ResourcesConfig
    ) -> None:
        self._number, self._corpus = number, corpus
        self._config, self._resources = config, resources

    @ray.method(concurrency_group="control", max_task_retries=-1, enable_task_events=False)
    def ping(self) -> int:
        """Answer beside an evaluation; the number grows while one makes progress."""
        return self._judge.done if "_judge" in vars(self) else 0

    @cached_property
    def _judge(self) -> Judge:
        # Here and not above: only this process needs torch, and its import takes seconds.
        import torch

        from raystt.evaluation.judge import Judge

        torch.set_num_threads(self._resources.threads_per_worker)
        device = device_of(self._resources.gpus_per_evaluator, "gpus_per_evaluator")
        return Judge(self._corpus, self._config, device=device)

    def __repr__(self) -> str:
        return f"evaluator-{self._number}"

    def evaluate(self, job: EvaluationJob | CeilingJob) -> Evaluation | Ceiling:
        """Evaluate a model on a split, or measure the ceiling of a split.

        Raises:
            JobFailed: It cannot be done.
            StateLost: The model is damaged; it is to be trained again.
            StorageLost: The storage took nothing.
        """
        from raystt.evaluation.ceiling import measure_ceiling

        try:
            if isinstance(job, CeilingJob):
                return measure_ceiling(self._judge, job)
            state = Path(job.model).parent
            remote.fetch(state, DONE)
            if (state / DONE).exists():
                model_of(state)
                let_go(state.parent)
            elif remote.url_of(state):  # no state: nothing in it tells a copy from a newer model
                remove(Path(job.model))
                remote.fetch(Path(job.model), MODEL_CONFIG)
            return self._judge.evaluate(job)
        except Exception as error:
            raise answer(error, None) or error from None

    @ray.method(max_task_retries=-1)
    def ready(self) -> str:
        """Return the signature of the scores, once everything is loaded."""
        return self._judge.signature


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
            await asyncio.wait(open_, timeout=_REST_SECONDS)

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


class EvaluatorPool:
    """`resources.evaluators` evaluation actors behind one dispatcher.

    Args:
        corpus: Directory of the prepared corpus.
        config: Names of the recogniser and the normaliser.
        resources: Sizes of the pool, and whether its actors have GPUs.
        on_message: Told of evaluators that wait for a place.
    """

    def __init__(
        self,
        corpus: str,
        config: EvaluationConfig,
        resources: ResourcesConfig,
        on_message: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._actor = ray.remote(
            concurrency_groups={"control": 1},
            num_cpus=resources.cpus_per_evaluator,
            num_gpus=resources.gpus_per_evaluator,
            max_restarts=-1,
            # Those that need no GPU keep out of each other's way. The others lie together: shares
            # of many devices would leave none whole.
            scheduling_strategy="DEFAULT" if resources.gpus_per_evaluator else "SPREAD",
        )(Evaluator)
        self._resources, self._on_message = resources, on_message
        self._arguments = (corpus, config, resources)
        # By names, which a dispatcher that starts again still has: handles would lie in the object
        # store, of which Ray warns.
        self._actors: dict[str, Any] = {}
        self.resize(resources.evaluators)
        self.dispatcher = (
            ray.remote(Dispatcher)
            .options(num_cpus=0, max_concurrency=1000, **beside_driver())
            .remote(list(self._actors), resources.patience)
        )

    def resize(self, count: int) -> None:
        """Start evaluators until there are `count`, or end the last ones, whose work others do."""
        for number in range(len(self._actors), count):
            name = f"evaluator-{number} {uuid.uuid4().hex[:8]}"
            self._actors[name] = self._actor.options(name=name).remote(number, *self._arguments)
        surplus = [self._actors.pop(name) for name in list(self._actors)[count:]]
        if surplus:
            # First the dispatcher lets go of them, else their end would be a failure of theirs.
            ray.wait([self.introduce()], timeout=2 * _REST_SECONDS)
        for actor in surplus:
            ray.kill(actor)

    def introduce(self) -> Any:
        """Tell the dispatcher who there is; return the reference of its answer."""
        return self.dispatcher.introduce.remote(list(self._actors))

    def __enter__(self) -> EvaluatorPool:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def wait_until_ready(self) -> str:
        """Wait until every evaluator has loaded its models and return the scores' signature.

        The first time on a machine, that includes the download of a recogniser of gigabytes.

        Raises:
            TimeoutError: An evaluator found no place within `resources.patience`.
            BadInput: Its models cannot be loaded, or it was promised a GPU that is not there.
        """
        waiting = Waiting(self._resources, self._on_message)
        loading = [actor.ready.remote() for actor in self._actors.values()]
        while len(ray.wait(loading, num_returns=len(loading), timeout=1.0)[0]) < len(loading):
            absent = ray.get(self.dispatcher.absences.remote())
            cause = waiting.look(absent, of=len(absent))
            if cause is not None:
                raise TimeoutError(cause)
        try:
            signatures = ray.get(loading)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, BadInput):
                raise error.cause from None
            raise
        return str(signatures[0])

    def stop(self) -> None:
        """End the actors; the dispatcher first, which would ask for those that are gone."""
        with suppress(ray.exceptions.RayError):
            ray.get(self.dispatcher.introduce.remote([]), timeout=2 * _REST_SECONDS)
        for actor in [self.dispatcher, *self._actors.values()]:
            ray.kill(actor)
