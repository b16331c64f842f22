"""A `raystt search` in a process of its own, whose Ray workers can be killed by name."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from raystt import remote
from raystt.lines import read
from raystt.results import Result, ResultsError

ROOT = Path(__file__).resolve().parents[1]


def small_search(path: Path, corpus: Path, languages: tuple[str, ...] = ("es",)) -> dict[str, Any]:
    """Return the quickstart's own search with less of everything, as a mapping of YAML.

    Args:
        path: Where the run is to lie.
        corpus: Where the corpus is to lie, or lies.
        languages: Its languages; the corpus has es and fr.
    """
    config = yaml.safe_load((ROOT / "search_spaces" / "quickstart.yaml").read_text())
    config |= {"name": "small", "trials": 4, "languages": list(languages)}
    config |= {"references": ["none", "paper", "constant"], "confirm": {"top": 0, "seeds": 2}}
    base = config["base"]
    base["storage"] = str(path / "runs")
    base["corpus"] |= {"path": str(corpus / "embedded"), "text_pairs": 60, "shard_rows": 16}
    sizes = {"train": 40, "dev": 6, "test": 6}
    base["corpus"]["languages"] = {name: dict(sizes) for name in ("es", "fr")}
    base["corpus"]["units"] |= {"source": 20, "target": 30}
    base["corpus"]["vocoder"] |= {"hidden": 96}
    base["corpus"]["base"] |= {"layers": 2, "hidden": 64, "heads": 2, "steps": 40}
    # The learning rate is a number that YAML 1.1 takes for a word.
    base["corpus"]["base"]["learning_rate"] = 3.0e-3
    base["training"] |= {"steps": 60, "batch_utterances": 8, "learning_rate": 4.0e-3}
    base["evaluation"] |= {"max_new_tokens": 40}
    base["resources"] |= {"trainers": 1, "evaluators": 1}
    return config


class Ended(AssertionError):
    """A search has ended that something was still awaited of."""


class Search:
    """A `raystt search` in the background.

    Args:
        space: Its YAML.
        options: Further ones of the command line.
    """

    def __init__(self, space: Path, *options: str) -> None:
        self.space = space
        config = yaml.safe_load(space.read_text())
        self.directory = remote.local(config["base"]["storage"]) / config["name"]
        self.log = space.with_suffix(".log")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "raystt.cli", "search", str(space), "--debug", *options],
                stdout=log, stderr=subprocess.STDOUT, cwd=space.parent, start_new_session=True,
            )  # fmt: skip

    @property
    def printed(self) -> str:
        return self.log.read_text()

    def wait(self, code: int = 0) -> str:
        """Wait for the end and return what was printed."""
        found = self.process.wait(timeout=900)
        assert found == code, self.printed
        return self.printed

    def wait_until(self, condition: Any, seconds: float = 300.0) -> None:
        limit = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None:
                raise Ended(self.printed)
            assert time.monotonic() < limit, self.printed
            time.sleep(0.05)

    def results(self) -> list[Result]:
        return read(self.directory / "results.jsonl")

    def wait_for_results(self, count: int) -> None:
        """Wait until so many evaluations are on disk; a search mends damaged ones as it starts."""

        def there() -> bool:
            with suppress(ResultsError):
                return len(self.results()) >= count
            return False

        self.wait_until(there)

    def wait_for(self, text: str, seconds: float = 300.0) -> None:
        """Wait until something was printed."""
        self.wait_until(lambda: text in self.printed, seconds)

    def workers(self, title: str) -> list[int]:
        """Return the Ray workers of this search that have `title` in their names."""
        return [pid for pid in descendants(self.process.pid) if title in command(pid)]

    def kill_worker(
        self, title: str, kind: signal.Signals = signal.SIGKILL, chance: random.Random | None = None
    ) -> int:
        """Send a signal to a worker, one drawn of several, and return its process."""
        while True:
            self.wait_until(lambda: bool(self.workers(title)), 120)
            # It may end by itself meanwhile.
            with suppress(IndexError, ProcessLookupError):
                pid = (chance or random.Random(0)).choice(self.workers(title))
                os.kill(pid, kind)
                return pid

    def kill(self) -> None:
        """Kill the driver with SIGKILL, and nothing else."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def end(self) -> None:
        """Kill what is left of it."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def command(pid: int) -> str:
    """Return a process's command line, or what it calls itself."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def descendants(root: int) -> list[int]:
    """Return the processes below `root`."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            parents[int(entry.name)] = int(fields[1])
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sorted(found - {root})
