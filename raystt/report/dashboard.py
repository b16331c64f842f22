"""`raystt dashboard`: optuna-dashboard and TensorBoard over a search, on loopback alone."""

from __future__ import annotations

import importlib.util
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from raystt.errors import BadInput
from raystt.searching.directory import RunDirectory

HOST = "127.0.0.1"
_RAY_PORTS = range(8265, 8271)  # where Ray's dashboard listens: 8265 or the next free one


class DashboardError(BadInput):
    """A dashboard cannot be started; the text names what is missing."""


def serve(run: Path, *, port: int, say: Callable[[str], None]) -> None:
    """Start both dashboards over a search, say where they are, and wait until one of them ends.

    Args:
        run: Directory of the search.
        port: The first of two ports in a row; 0 = any that are free.
        say: Told one line a dashboard: those two, and Ray's if one is up.

    Raises:
        DashboardError: optuna-dashboard is not installed, a port is taken, or one ended by itself.
    """
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise DashboardError("optuna-dashboard is not installed; install raystt[dashboard]")
    place = RunDirectory(run)
    ports = (port, port + 1) if port else (_free_port(), _free_port())
    commands = {
        "optuna-dashboard": [
            sys.executable, "-c", "from optuna_dashboard._cli import main; main()",
            str(place.journal), "--storage-class", "JournalFileStorage",
            "--host", HOST, "--port", str(ports[0]), "--quiet",
            "--artifact-dir", str(place.artifacts),
        ],
        "TensorBoard": [
            sys.executable, "-m", "tensorboard.main", "--logdir", str(place.tune),
            "--host", HOST, "--port", str(ports[1]),
        ],
    }  # fmt: skip
    started: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name, command in commands.items():
            started[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
            )  # fmt: skip
        for (name, process), at in zip(started.items(), ports, strict=True):
            _wait_for(name, process, at)
            say(f"{name + ':':<18} http://{HOST}:{at}/")
        ray = ray_dashboard()
        say(f"{'Ray:':<18} {ray}" if ray else "Ray's dashboard is not up on this machine")
        while all(process.poll() is None for process in started.values()):
            time.sleep(0.5)
        ended = next(name for name, process in started.items() if process.poll() is not None)
        raise DashboardError(f"{ended} ended by itself with {started[ended].returncode}")
    finally:
        for process in started.values():
            process.terminate()
        for process in started.values():
            process.wait()


def ray_dashboard() -> str | None:
    """Return the address of a Ray dashboard on this machine, if one answers."""
    for port in _RAY_PORTS:
        address = f"http://{HOST}:{port}"
        try:
            with urllib.request.urlopen(f"{address}/api/version", timeout=1.0) as answer:
                if b"ray" in answer.read(1000).lower():
                    return address
        except urllib.error.HTTPError as error:
            if error.code in (401, 403):  # Ray, which wants a token
                return address
        except (OSError, ValueError):
            continue
    return None


def _wait_for(name: str, process: subprocess.Popen[bytes], port: int) -> None:
    """Wait until something listens on the port."""
    while process.poll() is None:
        with socket.socket() as probe:
            if probe.connect_ex((HOST, port)) == 0:
                return
        time.sleep(0.2)
    raise DashboardError(
        f"{name} ended with {process.returncode}: is port {port} taken? give another --port"
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])
