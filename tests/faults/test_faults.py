"""Faults thrown at real searches, at random moments that a seed decides.

After each: the search has ended, or the command that its message names has ended it, and nothing
tells it from one that nothing disturbed. `make faults` throws more of them, more often.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from faults.conftest import ROUNDS, Faults, Start, Table, assert_whole
from searches import Ended, Search

# The first one waits for a corpus, and for the search that nothing disturbs.
pytestmark = [pytest.mark.ray, pytest.mark.faults, pytest.mark.timeout(2400)]
whole = pytest.mark.skipif(not ROUNDS, reason="`make faults` runs it")

WORKER = "a worker of a group of two"
Kind = tuple[str, tuple[str, signal.Signals]]
ALONE = "a worker of a group of one"
OF_ONE = {
    ALONE: ("ray::RayTrainWorker", signal.SIGKILL),
    f"SIGTERM to {ALONE}": ("ray::RayTrainWorker", signal.SIGTERM),
}
PROCESSES = {
    WORKER: ("ray::RayTrainWorker", signal.SIGKILL),
    f"SIGTERM to {WORKER}": ("ray::RayTrainWorker", signal.SIGTERM),
    "an evaluator": ("ray::Evaluator", signal.SIGKILL),
    "the broker": ("ray::Broker", signal.SIGKILL),
    "the dispatcher": ("ray::Dispatcher", signal.SIGKILL),
    "a controller of Ray Train": ("ray::TrainController", signal.SIGKILL),
    "an actor of Tune": ("ray::Trial", signal.SIGKILL),
}


def kill_one_by_one(
    start: Start, faults: Faults, chance: random.Random, kinds: list[Kind], undisturbed: Table,
    **resources: Any,
) -> Search:  # fmt: skip
    """Once trials run, kill a process of each kind, each when the search has gone on.

    A search that has ended before all were killed is whole, and the others are of another one.
    """

    def begun(*options: str) -> Search:
        search = start(*options, **resources)
        search.wait_until(lambda: bool(search.workers("ray::Trial")))
        return search

    search = begun()
    for name, (title, kind) in kinds:
        while True:
            time.sleep(chance.uniform(0.0, 1.5))
            done = len(search.results())
            try:
                search.kill_worker(title, kind, chance=chance)
                break
            except Ended:
                search.wait()
                assert_whole(search, undisturbed)
                search = begun("--overwrite")
        faults.throw(name)
        faults.goes_on(search, done)
    return search


def test_killed_processes(start: Start, faults: Faults, undisturbed: Table, seed: int) -> None:
    chance = random.Random(seed)
    kinds = chance.sample(sorted(PROCESSES.items()), len(PROCESSES) if ROUNDS else 2)
    search = kill_one_by_one(start, faults, chance, kinds, undisturbed)
    if not ROUNDS and search.process.poll() is None:  # else a scenario of its own
        faults.throw("SIGKILL to the driver")
        search.kill()
        damage(search.directory, chance, faults, 3)
        search = start("--resume")
    search.wait()
    assert_whole(search, undisturbed)
    assert not (search.directory / "failures.jsonl").exists()
    faults.survived()


@whole
def test_killed_workers_of_groups_of_one(
    start: Start, faults: Faults, undisturbed_alone: Table, seed: int
) -> None:
    chance = random.Random(600 + seed)
    kinds = chance.sample(sorted(OF_ONE.items()), 2)
    search = kill_one_by_one(start, faults, chance, kinds, undisturbed_alone, workers_per_trainer=1)
    search.wait()
    assert_whole(search, undisturbed_alone)
    assert not (search.directory / "failures.jsonl").exists()
    faults.survived()


def cut(path: Path, chance: random.Random) -> None:
    """Cut a file anywhere."""
    os.truncate(path, chance.randrange(path.stat().st_size))


def garble(path: Path, chance: random.Random) -> None:
    """Overwrite some bytes anywhere in a file."""
    with path.open("r+b") as file:
        file.seek(chance.randrange(path.stat().st_size))
        file.write(b"\0{]" * 3)


def drop_line(path: Path, chance: random.Random) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    del lines[chance.randrange(len(lines))]
    path.write_bytes(b"".join(lines))


def damage(directory: Path, chance: random.Random, faults: Faults, kinds: int) -> None:
    """Damage files of a search that does not run."""
    weights = sorted(directory.glob("states/*/model/model.safetensors"))
    done = sorted(directory.glob("states/*/done.json"))
    engines = [p for p in sorted(directory.glob("states/*/engine/**/*")) if p.is_file()]
    journal, results = directory / "journal.log", directory / "results.jsonl"
    possible = [(f"{how.__name__} {path.name}", how, path)
                for path in (journal, results) if path.exists() and path.stat().st_size
                for how in (cut, garble, drop_line)]  # fmt: skip
    for name, paths in (("weights", weights), ("done.json", done), ("engine", engines)):
        for how in (cut, garble):
            if paths:
                possible.append((f"{how.__name__} {name}", how, chance.choice(paths)))
    if weights:
        gone = chance.choice(weights).parent
        possible.append(("model deleted", lambda path, _: shutil.rmtree(path), gone))
    touched: set[Path] = set()
    for name, how, path in chance.sample(possible, len(possible)):
        # One of journal and results must be whole: nothing is told by neither.
        if path in touched or {journal, results} <= touched | {path} or not path.exists():
            continue
        if path.is_file() and not path.stat().st_size:
            continue
        faults.throw(name)
        how(path, chance)
        touched.add(path)
        if len(touched) == kinds:
            return


@whole
def test_killed_drivers_and_damaged_files(
    start: Start, faults: Faults, undisturbed: Table, seed: int
) -> None:
    chance = random.Random(100 + seed)
    search = start()
    search.wait_for_results(chance.randint(1, 2))
    time.sleep(chance.uniform(0.0, 4.0))
    faults.throw("SIGKILL to the driver")
    search.kill()
    damage(search.directory, chance, faults, 3)

    search = start("--resume")
    search.wait_for_results(chance.randint(3, 4))
    time.sleep(chance.uniform(0.0, 2.0))
    faults.throw("SIGTERM to the driver")
    search.process.terminate()
    assert "--resume goes on" in search.wait(143)
    assert "Traceback" not in search.printed and "SIGABRT" not in search.printed
    damage(search.directory, chance, faults, 3)

    search = start("--resume")
    search.wait()
    assert_whole(search, undisturbed)
    faults.survived()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 60 MB of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=60m", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


@contextmanager
def read_only(place: Path) -> Iterator[None]:
    """Let nobody open a file there for writing, for the time of the block.

    A file system cannot be made read-only while files are open for writing, so a read-only view of
    it is laid over its place.
    """
    view = place.with_name("view")
    view.mkdir(exist_ok=True)

    def mount(*arguments: str | Path) -> None:
        subprocess.run(["mount", *map(str, arguments)], check=True)

    mount("--bind", place, view)
    mount("-o", "remount,bind,ro", view)
    mount("--bind", view, place)
    try:
        with pytest.raises(OSError, match="Read-only"):
            (place / "probe").touch()
        yield
    finally:
        for one in (place, view):
            subprocess.run(["umount", "-l", str(one)], check=True)


def to_the_end(search: Search, start: Start, **options: Any) -> Search:
    """Let a search end by itself, or by the command that its message names."""
    if search.process.wait(timeout=900) == 0:
        return search
    assert "--resume" in search.printed, search.printed
    again = start("--resume", **options)
    again.wait()
    return again


@whole
def test_storage_full_and_read_only_for_a_while(
    start: Start, faults: Faults, undisturbed: Table, small_disk: Path, seed: int
) -> None:
    chance = random.Random(200 + seed)
    options = {"storage": small_disk, "patience": 60}
    search = start(**options)
    search.wait_for_results(1)
    time.sleep(chance.uniform(0.0, 3.0))
    faults.throw("disk full")
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:  # a write that has room for a part of it writes that part
            file.write(bytes(1 << 16))
    search.wait_until(
        lambda: "MB are free" in search.printed or "No space left" in search.printed
        or search.process.poll() is not None
    )  # fmt: skip
    time.sleep(chance.uniform(0.0, 8.0))
    ballast.unlink()
    search = to_the_end(search, start, **options) if search.process.poll() else search

    done = len(search.results())
    faults.throw("storage read-only for a while")
    with read_only(small_disk):
        time.sleep(chance.uniform(3.0, 8.0))
    faults.goes_on(search, done)
    search = to_the_end(search, start, **options)
    assert_whole(search, undisturbed)
    faults.survived()


@whole
def test_a_damaged_shard_stops_the_search_and_names_it(
    start: Start, faults: Faults, undisturbed: Table, small_corpus: Path, tmp_path: Path, seed: int
) -> None:
    chance = random.Random(300 + seed)
    shutil.copytree(small_corpus, tmp_path / "corpus")
    shard = chance.choice(sorted((tmp_path / "corpus").rglob("language=es/split=train/*.parquet")))
    kept = shard.read_bytes()
    chance.choice((cut, garble))(shard, chance)
    faults.throw("a damaged shard")
    search = start(corpus=tmp_path / "corpus")
    code = search.process.wait(timeout=900)
    if code:
        assert shard.name in search.printed
        if "raystt prepare" in search.printed:  # found before anything was trained
            shard.unlink()
            command = [sys.executable, "-m", "raystt.cli", "prepare", str(search.space)]
            subprocess.run(command, check=True)
            assert shard.read_bytes() == kept
        else:
            assert "--resume" in search.printed
            shard.write_bytes(kept)
        search = start("--resume", corpus=tmp_path / "corpus")
        search.wait()
        assert_whole(search, undisturbed)
    else:  # what was overwritten is read by nobody
        assert_whole(search, undisturbed)
    faults.survived()


@whole
@pytest.mark.parametrize(
    ("name", "title"),
    [("an evaluator", "ray::Evaluator"), ("a worker of a group of two", "ray::RayTrainWorker")],
)
def test_hangs(
    start: Start, faults: Faults, undisturbed: Table, name: str, title: str, seed: int
) -> None:
    chance = random.Random(400 + seed)
    search = start(patience=40)
    search.wait_for_results(1)
    search.wait_until(lambda: search.workers("ray::Evaluator.evaluate"))
    time.sleep(chance.uniform(0.0, 0.5))
    done = len(search.results())
    faults.throw(f"{name} that hangs")
    stopped = search.kill_worker(title, signal.SIGSTOP)
    try:
        faults.goes_on(search, done)
        search.wait()
    finally:
        if Path(f"/proc/{stopped}").exists():
            os.kill(stopped, signal.SIGKILL)
    assert_whole(search, undisturbed)
    faults.survived()
