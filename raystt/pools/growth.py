"""Pools that grow with the cluster: more trainers and evaluators on nodes that joined."""

from __future__ import annotations

from collections.abc import Callable

from raystt.cluster.plan import grown
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
        auto: Whether they grow (`resources: auto`).
        on_message: Told that they have.

    Attributes:
        resources: What the pools have now. Lost nodes make it no less: what was on them waits for
            others to come, and its work is done elsewhere, if one trainer finds room there.
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
        """Start what the nodes have room for."""
        if not self._auto:
            return
        more = grown(self.resources, alive_nodes())
        if more != self.resources:
            self._on_message(
                f"the cluster has grown: {more.trainers} trainers (before: "
                f"{self.resources.trainers}), {more.evaluators} evaluators (before: "
                f"{self.resources.evaluators})"
            )
            self._trainers.grow(more.trainers)
            self._evaluators.grow(more.evaluators)
            self.resources = more
        # Those that were started again know the first ones alone.
        self._trainers.introduce()
        self._evaluators.introduce()
