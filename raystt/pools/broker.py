"""The broker between trials that want segments and worker groups that train them.

A worker group asks for its next job; a trial asks for a job to be run. Jobs wait in the order in
which they came. A group that asks again while a job of its own is unfinished was restarted: it
gets that job again, at most `_ATTEMPTS` times.

What Ray's dashboard shows as an actor's name is its `__repr__`: an actor's own name would be taken
once for a whole cluster.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Any

from raystt.training.jobs import SegmentJob, SegmentResult, Step

_ATTEMPTS = 3


class JobFailed(RuntimeError):
    """A segment or an evaluation could not be done; the text is the worker's own error."""


@dataclass(frozen=True)
class Served:
    """A job's result and how long it waited for a free worker, in seconds."""

    result: Any
    wait_seconds: float


@dataclass(frozen=True)
class Assignment:
    """A segment to train, and the label of the trial that it is of."""

    job: SegmentJob
    label: str


@dataclass(frozen=True)
class Activity:
    """What a worker group is doing: the trial's label and its last reported step."""

    label: str
    step: Step | None


@dataclass
class _Ticket:
    assignment: Assignment
    answer: asyncio.Future[Any]
    submitted: float
    attempts: int = 0
    waited: float = 0.0
    step: Step | None = None


@dataclass
class _Slot:
    asks: int = 0
    ticket: _Ticket | None = None
    free_since: float | None = None
    restarts: int = 0
    alive: bool = True


@dataclass
class _State:
    queue: deque[_Ticket] = field(default_factory=deque)
    slots: dict[int, _Slot] = field(default_factory=dict)
    stopped: bool = False


class Broker:
    """Async Ray actor; every public method is called remotely."""

    def __init__(self, slots: int) -> None:
        self._state = _State(slots={slot: _Slot() for slot in range(slots)})
        self._changed = asyncio.Condition()

    def __repr__(self) -> str:
        return "broker"

    async def run(self, job: SegmentJob, label: str) -> Served:
        """Have a segment trained.

        Raises:
            JobFailed: The segment's own error, or its worker died too often.
        """
        answer = asyncio.get_running_loop().create_future()
        ticket = _Ticket(Assignment(job, label), answer, time.monotonic())
        async with self._changed:
            if not any(slot.alive for slot in self._state.slots.values()):
                raise JobFailed("no trainer is left: all worker groups have failed")
            self._state.queue.append(ticket)
            self._changed.notify_all()
        return Served(await ticket.answer, ticket.waited)

    async def next_job(self, number: int) -> Assignment | None:
        """Wait for the next job of a slot; None = stop."""
        async with self._changed:
            slot = self._state.slots[number]
            slot.asks += 1
            asked, slot.free_since = slot.asks, time.monotonic()
            if slot.ticket is not None:
                slot.restarts += 1
                if not self._abandon(slot):
                    return slot.ticket.assignment if slot.ticket else None
            self._changed.notify_all()
            # A restarted group asks anew; the question of the dead one must not take a job.
            await self._changed.wait_for(
                lambda: self._state.stopped or self._state.queue or slot.asks != asked
            )
            if self._state.stopped or slot.asks != asked:
                return None
            ticket = self._state.queue.popleft()
            ticket.waited = max(0.0, slot.free_since - ticket.submitted)
            slot.ticket = ticket
            return ticket.assignment

    def _abandon(self, slot: _Slot) -> bool:
        """Give up a ticket whose worker died too often; return whether it was given up."""
        assert slot.ticket is not None
        slot.ticket.attempts += 1
        slot.ticket.step = None
        if slot.ticket.attempts < _ATTEMPTS:
            return False
        self._answer(slot, JobFailed(
            f"{slot.ticket.assignment.label}: its trainer died {slot.ticket.attempts} times "
            "(out of memory? see the worker's log in Ray's dashboard)"
        ))  # fmt: skip
        return True

    async def finish(self, number: int, outcome: SegmentResult | str) -> None:
        """Take a slot's result, or the text of its error."""
        async with self._changed:
            slot = self._state.slots[number]
            self._answer(slot, JobFailed(outcome) if isinstance(outcome, str) else outcome)

    def _answer(self, slot: _Slot, outcome: SegmentResult | Exception) -> None:
        ticket, slot.ticket = slot.ticket, None
        if ticket is None or ticket.answer.done():
            return
        if isinstance(outcome, Exception):
            ticket.answer.set_exception(outcome)
        else:
            ticket.answer.set_result(outcome)

    async def train(self, number: int) -> None:
        """Last as long as the job that a slot was given: so Ray's dashboard can show its name."""
        ticket = self._state.slots[number].ticket
        if ticket is not None:
            await asyncio.wait([ticket.answer])

    async def report(self, number: int, step: Step) -> None:
        """Take note of a slot's progress."""
        ticket = self._state.slots[number].ticket
        if ticket is not None:
            ticket.step = step

    async def activity(self) -> list[Activity]:
        """Return what each busy slot is doing."""
        tickets = [slot.ticket for slot in self._state.slots.values()]
        return [Activity(t.assignment.label, t.step) for t in tickets if t is not None]

    async def ready(self) -> int:
        """Return how many slots have asked for work at least once."""
        return sum(slot.asks > 0 for slot in self._state.slots.values())

    async def restarts(self) -> int:
        """Return how often a worker group was lost and came back with a job to do again."""
        return sum(slot.restarts for slot in self._state.slots.values())

    async def lost(self, number: int, reason: str) -> None:
        """A slot's worker group is gone for good."""
        async with self._changed:
            slot = self._state.slots[number]
            slot.alive = False
            error = JobFailed(f"trainer {number} stopped: {reason}")
            self._answer(slot, error)
            if not any(other.alive for other in self._state.slots.values()):
                while self._state.queue:
                    self._state.queue.popleft().answer.set_exception(error)

    async def stop(self) -> list[int]:
        """Let all groups end after what they are doing; return those that do nothing."""
        async with self._changed:
            self._state.stopped = True
            self._changed.notify_all()
            return [n for n, slot in self._state.slots.items() if slot.asks and not slot.ticket]
