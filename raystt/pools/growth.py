"""Pools that follow the cluster: they grow on nodes that join, and shrink to what is left."""

from __future__ import annotations

from collections.abc import Callable

from raystt.cluster.plan import fitted
from raystt.cluster.start import alive_nodes
from raystt.config import ResourcesConfig
from raystt.pools.evaluators import EvaluatorPool
from raystt.pools.trainers import TrainerPool


class Growth:
    """The pools of a search and how large they are.

    Args:
        resources: What the pools were started with.
        trainers: The trainers.
        evaluators: The evaluators.
        auto: Whether they follow the cluster (`resources: auto`).
        on_message: Told that they have.

    Attributes:
        resources: What the pools have now. Lost nodes make trainers no fewer: one without a place
            takes nothing, and its work is done elsewhere. Evaluators that fitted before would take
            the place of a trainer, so those too many end.
    """

    def __init__(
        self,
        resources: ResourcesConfig,
        trainers: TrainerPool,
        evaluators: EvaluatorPool,
        auto: bool,
        on_message: Callable[[str], None],
    ) -> None:
        self.resources = resources
        self._trainers, self._evaluators = trainers, evaluators
        self._auto, self._on_message = auto, on_message

    @property
    def concurrent(self) -> int:
        """Most trials at a time: trainers work on one while another is being evaluated."""
        return self.resources.trainers + self.resources.evaluators

    def look(self) -> None:
        """Start what the nodes have room for, and end the evaluators that have none."""
        if not self._auto:
            return
        had, fits = self.resources, fitted(self.resources, alive_nodes())
        if fits.trainers < had.trainers:
            fits = had.model_copy(update={"evaluators": min(had.evaluators, fits.evaluators)})
        before, now = ((r.trainers, r.evaluators) for r in (had, fits))
        if now != before:
            self._on_message(
                f"the cluster has {'grown' if now[0] > before[0] else 'changed'}: {now[0]} "
                f"trainers (before: {before[0]}), {now[1]} evaluators (before: {before[1]})"
            )
            self._trainers.grow(fits.trainers)
            self._evaluators.resize(fits.evaluators)
            self.resources = fits
        # Those that were started again know the first ones alone.
        self._trainers.introduce()
        self._evaluators.introduce()
