"""The evaluator pool: persistent actors behind one dispatcher."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray

from raystt.config import EvaluationConfig, ResourcesConfig
from raystt.errors import BadInput
from raystt.pools.dispatcher import REST_SECONDS, Dispatcher
from raystt.pools.evaluator import Evaluator
from raystt.pools.placing import Waiting, beside_driver


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
        self._loading: dict[str, Any] = {}  # what each answers when it has its models
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
            self._loading[name] = self._actors[name].ready.remote()
        over = list(self._actors)[count:]
        surplus = [self._actors.pop(name) for name in over]
        if surplus:
            # First the dispatcher lets go of them, else their end would be a failure of theirs.
            ray.wait([self.introduce()], timeout=2 * REST_SECONDS)
        for name, actor in zip(over, surplus, strict=True):
            del self._loading[name]
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
        loading = list(self._loading.values())
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
            ray.get(self.dispatcher.introduce.remote([]), timeout=2 * REST_SECONDS)
        for actor in [self.dispatcher, *self._actors.values()]:
            ray.kill(actor)
