"""The broker: first come first served, restarted groups get their job again, none is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tiny import tiny_run

from raystt.pools import broker as module
from raystt.pools.broker import Assignment, Broker, NothingYet
from raystt.pools.errors import Interrupted, JobFailed
from raystt.training.jobs import SegmentJob, SegmentResult, StateLost


def job(tmp_path: Path, stop: int = 3) -> SegmentJob:
    return SegmentJob(tiny_run(tmp_path), str(tmp_path), 0, stop, None, str(tmp_path))


def result(stop: int = 3) -> SegmentResult:
    return SegmentResult("s", "complete", 0, stop, 1.0, 0.1, 10, 2.0, 0.5, 0.5)


async def given_to(broker: Broker, slot: int = 0) -> Assignment:
    given = await broker.next_job(slot)
    assert isinstance(given, Assignment)
    return given


def test_jobs_are_served_in_order(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Broker(1)
        runs = [asyncio.create_task(broker.run(job(tmp_path, n), f"es#{n}")) for n in (1, 2, 3)]
        for n in (1, 2, 3):
            given = await given_to(broker)
            assert (given.job.stop, given.label) == (n, f"es#{n}")
            assert [a.label for a in await broker.activity()] == [f"es#{n}"]
            await broker.finish(0, given.number, result(n))
        served = [await run for run in runs]
        assert [s.result.stop for s in served] == [1, 2, 3]
        assert await broker.activity() == []

    asyncio.run(scenario())


def test_what_is_asked_for_again_is_trained_once(tmp_path: Path) -> None:
    """A trial whose actor was killed asks anew, while a trainer is still at it."""

    async def scenario() -> None:
        broker = Broker(2)
        runs = [asyncio.create_task(broker.run(job(tmp_path), "es#0"))]
        given = await given_to(broker, 0)
        runs += [
            asyncio.create_task(broker.run(job(tmp_path), label)) for label in ("es#0", "es#1")
        ]
        other = await given_to(broker, 1)
        assert (given.label, other.label) == ("es#0", "es#1")
        await broker.finish(0, given.number, result())
        await broker.finish(1, other.number, result())
        assert [served.result for served in await asyncio.gather(*runs)] == [result()] * 3

    asyncio.run(scenario())


def test_restarted_group_gets_its_job_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Broker(2)
        run = asyncio.create_task(broker.run(job(tmp_path), "es#0"))
        first = await given_to(broker)
        assert await broker.next_job(0) is first  # asked again: it was lost in between
        assert await broker.restarts() == 1
        await broker.finish(0, first.number, result())
        assert (await run).result == result()

    asyncio.run(scenario())


def test_a_job_may_lose_its_group_three_times_since_its_last_checkpoint(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Broker(1)
        run = asyncio.create_task(broker.run(job(tmp_path), "es#0"))
        first = await given_to(broker)
        for _ in range(4):
            for _ in range(2):
                assert await broker.next_job(0) is first
            await broker.saved(0, first.number)
        await broker.saved(0, first.number - 1)  # of a job that it has no more
        for _ in range(2):
            assert await broker.next_job(0) is first
        asyncio.create_task(broker.next_job(0))
        with pytest.raises(JobFailed, match="es#0.*died 3 times"):
            await run

    asyncio.run(scenario())


def test_an_idle_group_takes_the_job_of_one_that_went_down(tmp_path: Path) -> None:
    """It may never come back: its node is gone, and no other has room for it."""

    async def scenario() -> None:
        broker = Broker(2)
        idle = asyncio.create_task(broker.next_job(1))
        await asyncio.sleep(0)
        run = asyncio.create_task(broker.run(job(tmp_path), "es#0"))
        given = await idle
        assert isinstance(given, Assignment)
        other = asyncio.create_task(broker.next_job(0))
        await broker.gone(1, "its node is gone")
        assert await other is given and await broker.restarts() == 1
        await broker.finish(1, given.number, JobFailed("said late"))
        await broker.finish(0, given.number, result())
        assert (await run).result == result()
        assert [a.worker for a in await broker.absences()] == ["trainer 1"]

    asyncio.run(scenario())


def test_the_question_of_a_group_that_went_down_takes_no_job(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Broker(2)
        dead = asyncio.create_task(broker.next_job(0))
        await asyncio.sleep(0)
        await broker.gone(0, "its node is gone")
        run = asyncio.create_task(broker.run(job(tmp_path), "es#0"))
        given = await given_to(broker, 1)
        assert await dead is None
        await broker.finish(1, given.number, result())
        assert (await run).result == result()

    asyncio.run(scenario())


def test_a_group_that_dies_at_each_start_has_been_away_since_the_first(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Broker(1)
        asked = asyncio.create_task(broker.next_job(0))
        await asyncio.sleep(0)
        assert await broker.absences() == []
        for reason in ("no GPU", "no GPU again"):
            await broker.gone(0, reason)
            await asyncio.sleep(0.05)
        (absence,) = await broker.absences()
        assert absence.seconds >= 0.1 and absence.reason == "no GPU again"
        assert await asked is None

    asyncio.run(scenario())


def test_a_group_that_is_lost_is_counted_no_more(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Broker(2)
        assert await broker.alive() == 2
        await broker.lost(0, "it could not be started")
        assert await broker.alive() == len(await broker.absences()) == 1

    asyncio.run(scenario())


def test_question_of_a_dead_group_takes_no_job(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Broker(1)
        dead = asyncio.create_task(broker.next_job(0))
        await asyncio.sleep(0)
        alive = asyncio.create_task(broker.next_job(0))
        await asyncio.sleep(0)
        run = asyncio.create_task(broker.run(job(tmp_path), "es#0"))
        given = await alive
        assert isinstance(given, Assignment)
        assert (await dead) is None
        await broker.finish(0, given.number, result())
        await run

    asyncio.run(scenario())


def test_a_job_that_kills_its_trainer_is_given_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Broker(1)
        run = asyncio.create_task(broker.run(job(tmp_path), "es#0"))
        for _ in range(3):
            assert await broker.next_job(0) is not None
        last = asyncio.create_task(broker.next_job(0))
        with pytest.raises(JobFailed, match="es#0.*died 3 times"):
            await run
        again = asyncio.create_task(broker.run(job(tmp_path, 7), "es#1"))
        given = await last
        assert isinstance(given, Assignment) and given.job.stop == 7
        await broker.finish(0, given.number, result(7))
        await again

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "error", [JobFailed("the data ended"), StateLost("states/a", "gone"), Interrupted("full")]
)
def test_errors_reach_the_trial_as_what_they_are(tmp_path: Path, error: Exception) -> None:
    async def scenario() -> None:
        broker = Broker(1)
        run = asyncio.create_task(broker.run(job(tmp_path), "es#0"))
        given = await given_to(broker)
        await broker.finish(0, given.number, error)
        with pytest.raises(type(error)) as raised:
            await run
        assert raised.value is error

    asyncio.run(scenario())


def test_what_a_dead_group_says_late_is_not_taken_for_another_job(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Broker(1)
        first = asyncio.create_task(broker.run(job(tmp_path), "es#0"))
        before = await given_to(broker)
        await broker.finish(0, before.number, JobFailed("a rank has told"))
        with pytest.raises(JobFailed):
            await first
        second = asyncio.create_task(broker.run(job(tmp_path), "es#1"))
        now = await given_to(broker)
        await broker.finish(0, before.number, JobFailed("connection closed by peer"))
        await broker.stumbled(0, before.number, "connection closed by peer")
        await broker.finish(0, now.number, result())
        assert (await second).result == result()

    asyncio.run(scenario())


def test_a_group_that_goes_down_too_often_fails_its_job_with_the_first_reason(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        broker = Broker(1)
        run = asyncio.create_task(broker.run(job(tmp_path), "es#0"))
        for _ in range(3):
            given = await given_to(broker)
            await broker.stumbled(0, given.number, "RuntimeError: CUDA out of memory")
            await broker.stumbled(0, given.number, "RuntimeError: Connection closed by peer")
        asked = asyncio.create_task(broker.next_job(0))
        with pytest.raises(JobFailed, match="died 3 times.*CUDA out of memory"):
            await run
        asked.cancel()

    asyncio.run(scenario())


def test_a_lost_trainers_job_is_done_by_another(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Broker(2)
        run = asyncio.create_task(broker.run(job(tmp_path), "es#0"))
        await given_to(broker, 0)
        await broker.lost(0, "its node is gone")
        given = await given_to(broker, 1)
        await broker.finish(1, given.number, result())
        assert (await run).result == result()

    asyncio.run(scenario())


def test_without_trainers_nobody_waits_for_ever(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Broker(1)
        run = asyncio.create_task(broker.run(job(tmp_path), "es#0"))
        await asyncio.sleep(0)
        await broker.lost(0, "its node is gone")
        with pytest.raises(Interrupted, match="its node is gone"):
            await run
        with pytest.raises(Interrupted, match="no trainer is left"):
            await broker.run(job(tmp_path), "es#1")

    asyncio.run(scenario())


def test_who_is_idle_hears_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_IDLE_SECONDS", 0.01)

    async def scenario() -> None:
        broker = Broker(1)
        assert await broker.next_job(0) == NothingYet()
        assert await broker.next_job(0) == NothingYet()
        assert await broker.restarts() == 0
        run = asyncio.create_task(broker.run(job(tmp_path), "es#0"))
        given = await given_to(broker)
        await broker.finish(0, given.number, result())
        assert (await run).result == result()

    asyncio.run(scenario())


def test_a_group_is_absent_until_it_asks_and_again_when_it_goes_down(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Broker(2)
        assert [a.worker for a in await broker.absences()] == ["trainer 0", "trainer 1"]
        runs = [asyncio.create_task(broker.run(job(tmp_path), f"es#{n}")) for n in range(2)]
        for slot in range(2):
            await given_to(broker, slot)
        assert await broker.absences() == []
        await broker.gone(1, "a node was lost")
        (absence,) = await broker.absences()
        assert (absence.worker, absence.reason) == ("trainer 1", "a node was lost")
        await given_to(broker, 1)
        assert await broker.absences() == []
        await broker.give_up("enough")
        for run in runs:
            with pytest.raises(Interrupted, match="enough"):
                await run

    asyncio.run(scenario())


def test_a_slot_that_was_started_later_is_missed_until_it_asks(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Broker(1)
        runs = [asyncio.create_task(broker.run(job(tmp_path), f"es#{n}")) for n in range(2)]
        await given_to(broker, 0)
        await broker.expect(3)
        assert [a.worker for a in await broker.absences()] == ["trainer 1", "trainer 2"]
        given = await given_to(broker, 2)
        assert given.label == "es#1"
        await broker.expect(3)
        assert [a.worker for a in await broker.absences()] == ["trainer 1"]
        assert [a.label for a in await broker.activity()] == ["es#0", "es#1"]
        await broker.give_up("enough")
        await asyncio.gather(*runs, return_exceptions=True)

    asyncio.run(scenario())


def test_waiting_is_counted_only_while_all_are_busy(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Broker(1)
        asked = asyncio.create_task(broker.next_job(0))
        await asyncio.sleep(0.05)
        first = asyncio.create_task(broker.run(job(tmp_path), "es#0"))
        given = await asked
        assert isinstance(given, Assignment)
        second = asyncio.create_task(broker.run(job(tmp_path), "es#1"))
        await asyncio.sleep(0.2)
        await broker.finish(0, given.number, result())
        given = await given_to(broker)
        await broker.finish(0, given.number, result())
        assert (await first).wait_seconds == 0.0
        assert (await second).wait_seconds >= 0.2

    asyncio.run(scenario())
