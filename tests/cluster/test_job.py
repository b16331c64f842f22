"""`cluster/submit.sh` and a real Ray head with a token: submitted, followed, stopped, resumed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from searches import small_search

from raystt.lines import read

pytestmark = [pytest.mark.ray, pytest.mark.long]

ROOT = Path(__file__).resolve().parents[2]
RAY = Path(sys.executable).with_name("ray")
SUBMITTED = "0.0.7"  # what tells the package of the job from the one that is installed


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Start a head; its users have a token in a home of their own, and its dashboard's address."""
    # Not pytest's own directory: the path of a socket has 107 characters.
    with tempfile.TemporaryDirectory(prefix="raystt-", ignore_cleanup_errors=True) as place:
        path = f"{RAY.parent}{os.pathsep}{os.environ['PATH']}"
        env = {k: v for k, v in os.environ.items() if not k.startswith(("RAY_", "PYTHON"))}
        env |= {"HOME": place, "PATH": path, "RAY_TMPDIR": place, "RAY_USAGE_STATS_ENABLED": "0"}
        subprocess.run([RAY, "get-auth-token", "--generate"], env=env, check=True, timeout=120)
        port = free_port()
        head = subprocess.Popen(
            [
                RAY, "start", "--head", "--block", "--node-ip-address=127.0.0.1", "--num-cpus=3",
                f"--port={free_port()}", f"--dashboard-port={port}",
                f"--ray-client-server-port={free_port()}",
                f"--dashboard-agent-listen-port={free_port()}",  # where jobs are taken
            ],
            env=env | {"RAY_AUTH_MODE": "token"}, cwd=place, start_new_session=True,
            stdout=(tmp_path / "head.log").open("w"), stderr=subprocess.STDOUT,
        )  # fmt: skip
        env |= {"ADDRESS": f"http://127.0.0.1:{port}", "RAY": str(RAY)}
        try:
            wait_for_jobs(env, head, tmp_path / "head.log")
            yield env
        finally:
            head.terminate()
            try:
                head.wait(60)
            except subprocess.TimeoutExpired:
                os.killpg(head.pid, signal.SIGKILL)


def wait_for_jobs(env: dict[str, str], head: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the head takes jobs: it answers before it has what runs them."""
    limit = time.monotonic() + 200
    while time.monotonic() < limit:
        assert head.poll() is None, log.read_text()
        done = subprocess.run(
            [RAY, "job", "submit", "--address", env["ADDRESS"], "--", "true"],
            env=env | {"RAY_AUTH_MODE": "token"}, capture_output=True, timeout=200,
        )  # fmt: skip
        if done.returncode == 0:
            return
        time.sleep(1)
    raise AssertionError(log.read_text())


@pytest.fixture
def submitting(tmp_path: Path, small_corpus: Path) -> Path:
    """A working directory with a package that is not the installed one, and a search in it."""
    place = tmp_path / "work"
    for name in ("raystt", "search_spaces", "cluster"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, place / name, symlinks=True, ignore=ignored)
    package = place / "raystt" / "__init__.py"
    package.write_text(re.sub('__version__ = ".*"', f'__version__ = "{SUBMITTED}"',
                              package.read_text()))  # fmt: skip
    config = small_search(tmp_path, small_corpus)
    config["base"]["resources"]["address"] = "auto"
    (place / "mine.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    # Two that raystt sets as well: Ray refuses them twice, and the job's own are to win.
    variables = {"OMP_NUM_THREADS": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "0", "HF_TOKEN": "secret"}
    runtime = {"excludes": ["data"], "env_vars": variables}
    (place / "runtime.yaml").write_text(yaml.safe_dump(runtime))
    return place


class Submitted:
    """A job, as the terminal shows it from which it was submitted."""

    def __init__(self, place: Path, env: dict[str, str], name: str, *words: str) -> None:
        self.log = place.with_name(f"{name}.log")
        self.process = subprocess.Popen(
            [place / "cluster" / "submit.sh", "--submission-id", name, "--", "mine.yaml", *words],
            env=env | {"RUNTIME_ENV": "runtime.yaml"}, stdout=self.log.open("w"),
            stderr=subprocess.STDOUT,
        )  # fmt: skip

    def wait_until(self, results: Path, count: int) -> None:
        limit = time.monotonic() + 400
        while not results.exists() or len(read(results)) < count:
            assert self.process.poll() is None, self.log.read_text()
            assert time.monotonic() < limit, self.log.read_text()
            time.sleep(0.1)

    def wait(self) -> tuple[int, str]:
        code = self.process.wait(500)
        return code, self.log.read_text()


def test_a_job_is_stopped_and_goes_on(
    tmp_path: Path, submitting: Path, environment: dict[str, str]
) -> None:
    directory = tmp_path / "runs" / "small"
    results = directory / "results.jsonl"

    first = Submitted(submitting, environment, "first")
    first.wait_until(results, 1)
    stop = subprocess.run(
        [RAY, "job", "stop", "--address", environment["ADDRESS"], "first"],
        env=environment | {"RAY_AUTH_MODE": "token"}, capture_output=True, text=True, timeout=200,
    )  # fmt: skip
    assert stop.returncode == 0, stop.stdout + stop.stderr
    _, shown = first.wait()
    assert "Ray dashboard: http://" in shown and "ASR-BLEU" in shown
    assert "raystt: terminated; the same command with --resume goes on" in shown
    assert "Traceback" not in shown and "SIGABRT" not in shown, shown
    before = results.read_text()
    assert not (directory / "summary.json").exists()

    code, shown = Submitted(submitting, environment, "again").wait()
    assert code != 0 and "holds a search already; continue it with --resume" in shown

    code, shown = Submitted(submitting, environment, "second", "--resume").wait()
    assert code == 0, shown
    assert results.read_text().startswith(before)
    found = read(results)
    assert Counter((r.trial, r.split) for r in found).most_common(1)[0][1] == 1
    assert {r.trial for r in found} == {0, 1, 2, 3}
    assert f'"raystt": "{SUBMITTED}"' in (directory / "run.json").read_text()
    for name in ("summary.json", "results.csv", "report/table.md", "best/es/config.yaml"):
        assert (directory / name).exists(), name
    assert "es: the search's best" in shown or "es: nothing" in shown, shown
