"""The installation is looked at before anything heavy is imported."""

from __future__ import annotations

from pathlib import Path

import pytest

from raystt.checking.installation import InstallationError, check_installation


def test_the_tested_installation_is_accepted() -> None:
    check_installation()


def test_a_cpu_only_torch_is_refused_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    with pytest.raises(InstallationError, match=r"CPU-only.*pip install -c constraints\.txt torch"):
        check_installation(tmp_path)
