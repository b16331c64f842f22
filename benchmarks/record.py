"""What every benchmark writes beside its numbers: commit, versions, hardware, command."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from raystt import __version__

ROOT = Path(__file__).resolve().parents[1]
CODE = ("raystt", "benchmarks", ":(exclude)benchmarks/results")


def git(*arguments: str) -> str:
    """Ask git about this checkout; empty where there is none."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip()


def hardware(device: str) -> str:
    """Name the processor, or the GPU."""
    if device == "cuda":
        import torch

        return f"{torch.cuda.get_device_name()}, 1 of {torch.cuda.device_count()}"
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return (
        f"{models[0] if models else platform.processor()}, {os.cpu_count()} logical CPUs, 1 thread"
    )


def _shown(argument: str) -> str:
    """Return an argument, or the script, without where this machine keeps its files."""
    path = Path(argument)
    if not path.is_absolute():
        return argument
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else path.name


def save(
    name: str,
    reference: str,
    setting: Mapping[str, Any],
    results: Sequence[Mapping[str, Any]],
    *,
    packages: Sequence[str],
    device: str = "cpu",
) -> Path:
    """Write `benchmarks/results/<name>-<hardware>-<date>.json` and say so."""
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    record = {
        "benchmark": name,
        "reference": reference,
        "date": today,
        "commit": git("rev-parse", "HEAD"),
        "uncommitted_changes": bool(git("status", "--porcelain", "--", *CODE)),
        "command": " ".join(["python", *map(_shown, sys.argv)]),
        "versions": {
            "raystt": __version__,
            "python": platform.python_version(),
            **{package: version(package) for package in packages},
        },
        "hardware": hardware(device),
        "setting": dict(setting),
        "results": list(results),
    }
    # "NVIDIA H100 80GB HBM3" is h100.
    place = "cpu" if device == "cpu" else hardware(device).split(",")[0].split()[1].lower()
    path = ROOT / "benchmarks" / "results" / f"{name}-{place}-{today}.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(f"wrote {path.relative_to(ROOT)}")
    return path
