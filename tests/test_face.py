"""`import raystt`: names for a notebook, and nothing heavy until one is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import raystt


def test_every_name_is_there_and_its_stub_agrees() -> None:
    for name in raystt.__all__:
        assert getattr(raystt, name) is not None, name
    stub = ast.parse(Path(raystt.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    told = {
        alias.asname: node.module
        for node in ast.walk(stub) if isinstance(node, ast.ImportFrom) for alias in node.names
    }  # fmt: skip
    assert told == raystt._HOME


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="raystt.*lienar"):
        raystt.lienar  # noqa: B018


def test_a_schedule_needs_no_torch_and_no_ray() -> None:
    code = (
        "import sys, raystt; assert raystt.Linear(initial=0.9, end=0.8).ratio(0.4) == 0.45; "
        "print(*[m for m in ('ray', 'torch', 'optuna', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert not done.stdout.split()
