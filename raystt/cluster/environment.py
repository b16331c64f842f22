"""What a search ran on: versions, the commit of the source, and the cluster's resources."""

from __future__ import annotations

import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import ray

from raystt import __version__

_PACKAGES = (
    "ray", "torch", "transformers", "deepspeed", "optuna", "sacrebleu", "torchaudio",
    "pocketsphinx",
)  # fmt: skip


def environment() -> dict[str, Any]:
    """Describe the machine of the driver and the cluster that it is connected to."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    resources = ray.cluster_resources()
    kinds = [name.partition(":")[2] for name in resources if name.startswith("accelerator_type:")]
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "raystt": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "versions": versions,
        "system": platform.platform(),
        "nodes": sum(node["Alive"] for node in ray.nodes()),
        "cpus": resources.get("CPU", 0.0),
        "gpus": resources.get("GPU", 0.0),
        "accelerators": kinds,
    }


def _commit() -> str:
    """Return the commit of a checkout, with `+` where it was changed; "" of an installed wheel."""
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return ""
    try:
        head = _git(here, "rev-parse", "--short=12", "HEAD")
        return head + "+" * bool(_git(here, "status", "--porcelain", "--", "raystt"))
    except (OSError, subprocess.SubprocessError):  # no git, or not allowed to look
        return ""


def _git(here: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=here, capture_output=True, text=True, check=True, timeout=10
    )
    return done.stdout.strip()
