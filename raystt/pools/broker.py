"""The broker between trials that want segments and worker groups that train them.

A worker group asks for its next job; a trial asks for a job to be run. Jobs wait in the order in
which they came. The job of a group that went down comes first again, for whichever group asks next,
at most `_ATTEMPTS` times since its last checkpoint.

All of its state can be lost: Ray starts a broker that died again and repeats the calls that were
not answered, and a segment that was finished in the meantime is found where it lies.

What Ray's dashboard shows as an actor's name is its `__repr__`: an actor's own name would be taken
once for a whole cluster.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from typing import Any

import ray

from raystt.pools.errors import Interrupted, JobFailed, unwrapped
from raystt.training.jobs import SegmentJob, SegmentResult, Step

# Asked every second or so: Ray's list of tasks, which its dashboard shows and its GCS holds in
# memory, is for what works.
unlisted = ray.method(enable_task_events=False)

_ATTEMPTS = 3
_IDLE_SECONDS = 60.0


@dataclass(frozen=True)
class Served:
    """A job's result and how long it waited for a free worker, in seconds."""

    result: Any
    wait_seconds: float


@dataclass(frozen=True)
class Assignment:
    """A segment to train, its number with the broker, and the label of the trial it is of."""

    job: SegmentJob
    label: str
    number: int


@dataclass(frozen=True)
class NothingYet:
    """There is no job now: ask again. The ranks of a group must hear of each other meanwhile."""


@dataclass(frozen=True)
class Activity:
    """What a worker group is doing: the trial's label and its last reported step."""

    label: str
    step: Step | None


@dataclass(frozen=True)
class Absence:
    """A worker that is not there: which, for how many seconds, and what was heard last."""

    worker: str
    seconds: float
    reason: str


@dataclass
class _Ticket:
    assignment: Assignment
    answer: asyncio.Future[Any]
    submitted: float
    attempts: int = 0
    waited: float = 0.0
    step: Step | None = None
    stumbled: str = ""


@dataclass
class _Slot:
    asks: int = 0
    question: int = 0  # the last one: that of a group which went down takes no job
    ticket: _Ticket | None = None
    free_since: float | None = None
    alive: bool = True
    absent_since: float | None = field(default_factory=time.monotonic)
    reason: str = ""


@dataclass
class _State:
    slots: defaultdict[int, _Slot]
    queue: deque[_Ticket] = field(default_factory=deque)
    stopped: bool = False
    given_up: str = ""


class Broker:
    """Async Ray actor; every public method is called remotely."""

    def __init__(self, slots: int) -> None:
        # One that is started later may ask before it is expected.
        self._state = _State(slots=defaultdict(_Slot))
        self._expect(slots)
        self._changed = asyncio.Condition()
        self._numbers = itertools.count(time.time_ns())  # no number of an earlier life
        self._restarts = 0

    def __repr__(self) -> str:
        return "broker"

    def _expect(self, slots: int) -> None:
        for number in range(slots):
            self._state.slots[number]

    @unlisted
    async def expect(self, slots: int) -> None:
        """Know of slots that were started since; they are absent until they ask."""
        self._expect(slots)

    async def run(self, job: SegmentJob, label: str) -> Served:
        """Have a segment trained.

        Raises:
            JobFailed: The segment's own error, or its worker died too often.
            StateLost: What it was to continue from must be trained again.
            Interrupted: The storage took nothing, or no trainer is left.
        """
        async with self._changed:
            if self._state.given_up:
                raise Interrupted(self._state.given_up)
            ticket = self._asked(job, label)
            if ticket is None:
                assignment = Assignment(job, label, next(self._numbers))
                answer = asyncio.get_running_loop().create_future()
                ticket = _Ticket(assignment, answer, time.monotonic())
                self._state.queue.append(ticket)
                self._changed.notify_all()
        return Served(await asyncio.shield(ticket.answer), ticket.waited)

    def _asked(self, job: SegmentJob, label: str) -> _Ticket | None:
        """Find a job that is asked for again, by a trial whose actor was lost and came back."""
        given = (slot.ticket for slot in self._state.slots.values())
        for ticket in filter(None, (*self._state.queue, *given)):
            if ticket.assignment.label == label and ticket.assignment.job == job:
                return ticket
        return None

    @unlisted
    async def next_job(self, number: int) -> Assignment | NothingYet | None:
        """Wait for the next job of a slot, for a minute at most; None = stop."""
        async with self._changed:
            slot = self._state.slots[number]
            slot.asks += 1
            slot.question += 1
            slot.absent_since, question = None, slot.question
            self._drop(slot)  # with a job, it went down, and this broker was not told
            if slot.free_since is None:
                slot.free_since = time.monotonic()
            self._changed.notify_all()
            try:
                await asyncio.wait_for(
                    self._changed.wait_for(
                        lambda: (
                            self._state.stopped or self._state.queue or slot.question != question
                        )
                    ),
                    _IDLE_SECONDS,
                )
            except TimeoutError:
                return NothingYet()
            if self._state.stopped or slot.question != question:
                return None
            ticket = self._state.queue.popleft()
            ticket.waited += max(0.0, slot.free_since - ticket.submitted)
            slot.ticket, slot.free_since = ticket, None
            return ticket.assignment

    def _drop(self, slot: _Slot) -> None:
        """Give the job of a group that went down to the next that asks, or up if it kills them."""
        ticket, slot.ticket = slot.ticket, None
        if ticket is None:
            return
        self._restarts += 1
        ticket.attempts += 1
        ticket.step, ticket.submitted = None, time.monotonic()
        if ticket.attempts < _ATTEMPTS:
            self._state.queue.appendleft(ticket)
            return
        why = ticket.stumbled or "out of memory? see the worker's log in Ray's dashboard"
        _settle(ticket, JobFailed(
            f"{ticket.assignment.label}: its trainer died {ticket.attempts} times ({why})"
        ))  # fmt: skip

    async def finish(self, number: int, ticket: int, outcome: SegmentResult | Exception) -> None:
        """Take a slot's result, or the error of one of its workers, for the job of that number."""
        async with self._changed:
            slot = self._state.slots[number]
            if slot.ticket is not None and slot.ticket.assignment.number == ticket:
                self._answer(slot, outcome)

    async def stumbled(self, number: int, ticket: int, error: str) -> None:
        """Note why a group goes down; its job is tried again."""
        slot = self._state.slots[number]
        if slot.ticket is not None and slot.ticket.assignment.number == ticket:
            # A rank whose peer died tells only that; the first to speak knows best.
            slot.ticket.stumbled = slot.ticket.stumbled or error

    async def saved(self, number: int, ticket: int) -> None:
        """Note that a slot's job has another checkpoint: after that, it may be tried as often."""
        slot = self._state.slots[number]
        if slot.ticket is not None and slot.ticket.assignment.number == ticket:
            slot.ticket.attempts = 0

    def _answer(self, slot: _Slot, outcome: SegmentResult | Exception) -> None:
        ticket, slot.ticket = slot.ticket, None
        if ticket is not None:
            _settle(ticket, outcome)

    async def train(self, number: int) -> None:
        """Last as long as the job that a slot was given: so Ray's dashboard can show its name."""
        ticket = self._state.slots[number].ticket
        if ticket is not None:
            await asyncio.wait([ticket.answer])

    @unlisted
    async def report(self, number: int, ticket: int, step: Step) -> None:
        """Take note of a slot's progress."""
        slot = self._state.slots[number]
        slot.absent_since = None  # this broker may not know yet that it is there
        if slot.ticket is not None and slot.ticket.assignment.number == ticket:
            slot.ticket.step = step

    @unlisted
    async def activity(self) -> list[Activity]:
        """Return what each busy slot is doing."""
        tickets = [slot.ticket for slot in self._state.slots.values()]
        return [Activity(t.assignment.label, t.step) for t in tickets if t is not None]

    @unlisted
    async def asks(self, number: int) -> int:
        """Return how often a slot has asked for work."""
        return self._state.slots[number].asks

    @unlisted
    async def ready(self) -> int:
        """Return how many slots have asked for work at least once."""
        return sum(slot.asks > 0 for slot in self._state.slots.values())

    @unlisted
    async def restarts(self) -> int:
        """Return how often a job lost its worker group."""
        return self._restarts

    async def gone(self, number: int, reason: str) -> None:
        """A slot's worker group went down and is being started again; another may take its job."""
        async with self._changed:
            slot = self._state.slots[number]
            slot.question += 1
            slot.reason = reason
            # Of one that dies at each start, the first counts: it has not been there since.
            slot.absent_since = slot.absent_since or time.monotonic()
            slot.free_since = None
            self._drop(slot)
            self._changed.notify_all()

    @unlisted
    async def alive(self) -> int:
        """Return the number of slots that are there or are being started."""
        return sum(slot.alive for slot in self._state.slots.values())

    @unlisted
    async def absences(self) -> list[Absence]:
        """Return the slots whose worker group is not there."""
        now = time.monotonic()
        return [
            Absence(f"trainer {number}", now - slot.absent_since, slot.reason)
            for number, slot in self._state.slots.items()
            if slot.alive and slot.absent_since is not None
        ]

    async def lost(self, number: int, reason: str) -> None:
        """A slot's worker group is gone for good: another takes over its job."""
        async with self._changed:
            slot = self._state.slots[number]
            slot.alive = False
            self._drop(slot)
            self._changed.notify_all()
        if not any(other.alive for other in self._state.slots.values()):
            await self.give_up(f"no trainer is left; trainer {number} stopped: {reason}")

    async def give_up(self, cause: str) -> None:
        """Interrupt all that is asked for, now and later."""
        async with self._changed:
            self._state.given_up = cause
            for slot in self._state.slots.values():
                self._answer(slot, Interrupted(cause))
            while self._state.queue:
                _settle(self._state.queue.popleft(), Interrupted(cause))

    async def stop(self) -> list[int]:
        """Let all groups end after what they are doing; return those that do nothing."""
        async with self._changed:
            self._state.stopped = True
            self._changed.notify_all()
            return [
                n for n, slot in self._state.slots.items()
                if slot.asks and not slot.ticket and slot.absent_since is None
            ]  # fmt: skip


def served(pending: Any) -> Served:
    """Wait for a pool's answer.

    Raises:
        JobFailed, StateLost, Interrupted: What the pool says of it; a pool that is gone interrupts.
    """
    try:
        found: Served = ray.get(pending)
    except ray.exceptions.RayError as error:
        raise unwrapped(error) from None
    return found


def _settle(ticket: _Ticket, outcome: SegmentResult | Exception) -> None:
    if ticket.answer.done():
        return
    if isinstance(outcome, Exception):
        ticket.answer.set_exception(outcome)
    else:
        ticket.answer.set_result(outcome)
