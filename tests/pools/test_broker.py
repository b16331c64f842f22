"""The broker: first come first served, restarted groups get their job again, none is lost."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from tiny import tiny_run

from raystt.pools.broker import Broker, JobFailed
from raystt.training.jobs import SegmentJob, SegmentResult


def job(tmp_path: Path, stop: int = 3) -> SegmentJob:
    return SegmentJob(tiny_run(tmp_path), str(tmp_path), 0, stop, None, str(tmp_path))


def result(stop: int = 3) -> SegmentResult:
    return SegmentResult("s", "complete", 0, stop, 1.0, 0.1, 10, 2.0, 0.5, 0.5)


def test_jobs_are_served_in_order(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Broker(1)
        runs = [asyncio.create_task(broker.run(job(tmp_path, n), f"es#{n}")) for n in (1, 2, 3)]
        for n in (1, 2, 3):
            given = await broker.next_job(0)
            assert given is not None and (given.job.stop, given.label) == (n, f"es#{n}")
            assert [a.label for a in await broker.activity()] == [f"es#{n}"]
            await broker.finish(0, result(n))
        served = [await run for run in runs]
        assert [s.result.stop for s in served] == [1, 2, 3]
        assert await broker.activity() == []

    asyncio.run(scenario())


def test_restarted_group_gets_its_job_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Broker(2)
        run = asyncio.create_task(broker.run(job(tmp_path), "es#0"))
        first = await broker.next_job(0)
        assert await broker.next_job(0) is first  # asked again: it was lost in between
        assert await broker.restarts() == 1
        await broker.finish(0, result())
        assert (await run).result == result()

    asyncio.run(scenario())


def test_question_of_a_dead_group_takes_no_job(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Broker(1)
        dead = asyncio.create_task(broker.next_job(0))
        await asyncio.sleep(0)
        alive = asyncio.create_task(broker.next_job(0))
        await asyncio.sleep(0)
        run = asyncio.create_task(broker.run(job(tmp_path), "es#0"))
        assert (await alive) is not None
        assert (await dead) is None
        await broker.finish(0, result())
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
        assert given is not None and given.job.stop == 7
        await broker.finish(0, result(7))
        await again

    asyncio.run(scenario())


def test_errors_reach_the_trial(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Broker(1)
        run = asyncio.create_task(broker.run(job(tmp_path), "es#0"))
        await broker.next_job(0)
        await broker.finish(0, "ValueError: the data ended")
        with pytest.raises(JobFailed, match="the data ended"):
            await run

    asyncio.run(scenario())


def test_without_trainers_nobody_waits_for_ever(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Broker(1)
        run = asyncio.create_task(broker.run(job(tmp_path), "es#0"))
        await asyncio.sleep(0)
        await broker.lost(0, "its node is gone")
        with pytest.raises(JobFailed, match="its node is gone"):
            await run
        with pytest.raises(JobFailed, match="no trainer is left"):
            await broker.run(job(tmp_path), "es#1")

    asyncio.run(scenario())


def test_waiting_is_counted_only_while_all_are_busy(tmp_path: Path) -> None:
    async def scenario() -> None:
        broker = Broker(1)
        asked = asyncio.create_task(broker.next_job(0))
        await asyncio.sleep(0.05)
        first = asyncio.create_task(broker.run(job(tmp_path), "es#0"))
        await asked
        second = asyncio.create_task(broker.run(job(tmp_path), "es#1"))
        await asyncio.sleep(0.2)
        await broker.finish(0, result())
        await broker.next_job(0)
        await broker.finish(0, result())
        assert (await first).wait_seconds == 0.0
        assert (await second).wait_seconds >= 0.2

    asyncio.run(scenario())
