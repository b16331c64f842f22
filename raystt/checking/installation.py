"""Refuse an installation that would fail later with an error that explains nothing."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from raystt.errors import BadInput

_FIX = (
    "install the ordinary build, which also runs on machines without a GPU: "
    "pip install -c constraints.txt torch torchaudio"
)


class InstallationError(BadInput):
    """A package is missing or of a build that does not work; the text names the fix."""


def check_installation(torch: Path | None = None) -> None:
    """Refuse a torch that torchaudio cannot be imported with; imports neither.

    torchaudio's last release links against torch's CUDA libraries. A CPU-only torch lacks them,
    and the failing import takes transformers' models down with it.

    Args:
        torch: Directory of the torch package; the installed one by default.

    Raises:
        InstallationError: torch is missing, or its CPU-only build is installed.
    """
    if torch is None:
        spec = find_spec("torch")
        if spec is None or spec.origin is None:
            raise InstallationError(f"torch is not installed; {_FIX}")
        torch = Path(spec.origin).parent
    if not (torch / "lib" / "libc10_cuda.so").exists():
        try:
            found = version("torch")
        except PackageNotFoundError:
            found = "?"
        raise InstallationError(
            f"torch {found} in {torch} is the CPU-only build, which torchaudio cannot be imported "
            f"with; {_FIX}"
        )
