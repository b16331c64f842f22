"""The space of a search: what is accepted can be drawn from, and gives runs."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from hypothesis import given

from raystt.config import ConfigError, SearchConfig, load_search
from raystt.config.yaml_source import parse
from tests.fuzz.harness import fuzzed, outcome
from tests.fuzz.yaml_texts import SEARCH, entries, structured

_TREE = parse(SEARCH.decode()).data
_HEAD = SEARCH.decode().partition("space:")[0]
_BASE = "base:" + SEARCH.decode().partition("base:")[2]

pytestmark = pytest.mark.filterwarnings("ignore:The distribution is specified:UserWarning")


def drawn(path: Path) -> SearchConfig:
    """Load a search and draw from its space, as its trials do."""
    search = load_search(path)
    for language in search.languages:
        for seed in range(3):
            sampler = optuna.samplers.RandomSampler(seed=seed)
            study = optuna.create_study(sampler=sampler)
            search.run_for(language, search.space.suggest(study.ask(), language))
    return search


@fuzzed
@given(data=structured({"space": _TREE["space"]}))
def test_damaged_spaces(tmp_path: Path, data: bytes) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = tmp_path / "search.yaml"
    path.write_bytes(f"{_HEAD}{_BASE}\n".encode() + data.strip().removeprefix(b"{")[:-1])
    outcome("space, damaged", lambda: drawn(path), ConfigError, [path])


@fuzzed
@given(space=entries())
def test_possible_spaces(tmp_path: Path, space: str) -> None:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    path = tmp_path / "search.yaml"
    path.write_text(f"{_HEAD}space:\n{space}\n{_BASE}")
    outcome("space, possible", lambda: drawn(path), ConfigError, [path])
