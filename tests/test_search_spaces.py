"""Every YAML that is shipped parses, checks clean, and says the truth about defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from raystt.check import check
from raystt.config.yaml_source import dotted, parse, read
from raystt.space import SearchConfig, load_search

DIRECTORY = Path(__file__).resolve().parents[1] / "search_spaces"
FILES = sorted(DIRECTORY.glob("*.yaml"))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """See the files as on a fresh machine of two cores, with no corpus prepared."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr("raystt.config.parts.os.sched_getaffinity", lambda _: {0, 1}, raising=False)


def test_there_are_some() -> None:
    assert {"quickstart.yaml", "shapes.yaml"} <= {path.name for path in FILES}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_checks_clean(path: Path) -> None:
    report = check(path)
    assert report.name == path.stem
    assert report.warnings == ()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_commented(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert all(len(line) <= 100 for line in lines)


def test_the_quickstart_is_what_the_readme_promises() -> None:
    search = load_search(DIRECTORY / "quickstart.yaml")
    sizes = search.base.corpus.languages
    assert search.languages == ("es", "fr")
    assert search.trials * len(search.languages) >= 12
    assert search.trials > len(search.references) == 3
    assert sizes["es"].train < sizes["fr"].train


def flat(tree: Any, above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if not isinstance(tree, dict) or not tree:
        return {above: tree}
    return {k: v for key, value in tree.items() for k, v in flat(value, (*above, key)).items()}


def test_the_quickstart_explains_every_key() -> None:
    """Compare its keys and the defaults in its comments with the models."""
    source = read(DIRECTORY / "quickstart.yaml")
    bare = SearchConfig.model_validate(
        {
            "name": "x", "languages": ["es"], "trials": 3, "space": {},
            "base": {"corpus": {"languages": {"es": {"train": 16}}}},
        }
    ).model_dump(mode="json", by_alias=True)  # fmt: skip
    defaults = {
        key: value
        for key, value in flat(bare).items()
        if key[0] != "space" and key[:3] != ("base", "corpus", "languages")
    }
    missing = [dotted(key) for key in defaults if key not in source.lines]
    assert not missing

    lines = Path(source.file).read_text(encoding="utf-8").splitlines()
    compared = 0
    for key, value in defaults.items():
        line = lines[source.lines[key] - 1]
        assert "#" in line or key == ("references",), f"{dotted(key)} has no comment"
        said = re.search(r"# default ([^\s,]+?)[.,]?(?:\s|$)", line)
        if said:
            assert parse(f"a: {said[1]}").data["a"] == value, f"{dotted(key)}: {line}"
            compared += 1
    assert compared > 50
