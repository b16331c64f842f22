"""Every YAML that is shipped parses, checks clean, and says the truth about defaults."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from raystt.checking import check
from raystt.config import SearchConfig, load_any, load_search
from raystt.config.yaml_source import dotted, parse, read

DIRECTORY = Path(__file__).resolve().parents[1] / "search_spaces"
FILES = sorted(DIRECTORY.glob("*.yaml"))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """See the files as on a fresh machine of two cores, with no corpus prepared."""
    monkeypatch.chdir(tmp_path)
    for name in ("RAY_ADDRESS", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("raystt.config.parts.os.sched_getaffinity", lambda _: {0, 1}, raising=False)


def test_there_are_some() -> None:
    assert {"quickstart.yaml", "shapes.yaml", "paper.yaml", "cvss.yaml"} <= {
        path.name for path in FILES
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_checks_clean(path: Path) -> None:
    report = check(path)
    assert report.name == path.stem
    assert report.warnings == ()
    # The recordings of some lie where their users have them.
    assert all(one.key.startswith("base.corpus.sources.") for one in report.problems)
    assert bool(report.problems) == (load_any(path).base.corpus.reader != "embedded")
    assert max(map(len, report.render().splitlines()[1:])) <= 80  # the first names the file


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_it_is_commented(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0].startswith("# ")
    assert all(len(line) <= 100 for line in lines)


def test_the_quickstart_is_what_the_readme_promises() -> None:
    search = load_search(DIRECTORY / "quickstart.yaml")
    sizes = search.base.corpus.languages
    assert search.languages == ("es", "fr")
    assert search.confirm.top >= 1 and search.confirm.seeds >= 2
    assert search.trials > len(search.references) == 2
    assert sizes["es"].train < sizes["fr"].train


def test_the_quickstart_takes_the_minutes_that_it_takes() -> None:
    """On two shared cores it took 10 minutes."""
    cost = check(DIRECTORY / "quickstart.yaml").cost
    assert cost is not None and cost.devices == 2
    assert 8 < cost.days * 1440 < 15
    search = load_search(DIRECTORY / "quickstart.yaml")
    trainings = search.total_trials + sum(map(search.confirmations_of, search.languages))
    assert 15 < cost.hours["training"] * 3600 / trainings < 40  # 24 s a trial were measured


def test_the_paper_is_its_table() -> None:
    search = load_search(DIRECTORY / "paper.yaml")
    assert search.total_trials == 3 * 7 + 4
    assert search.fixed("fr") == ("none", "paper", "constant")
    assert search.fixed("pt")[3:] == ("source_only", "target_only", "mask", "no_alignment")
    for name, expected in (("none", 0.0), ("constant", 0.3)):
        run = search.run_for("fr", search.reference(name))
        assert set(run.schedule.values(0, 6000, 6000)) == {expected}
    for name in search.fixed("pt")[3:] + ("paper",):
        run = search.run_for("pt", search.reference(name))
        assert run.training.learning_rate == 5e-5 and run.training.dropout == 0.2
        ratios = run.schedule.values(0, run.training.steps, run.training.steps)
        levels = [round(0.9 - 0.1 * (step // 300), 1) if step < 2700 else 0 for step in range(6000)]
        assert ratios.tolist() == pytest.approx(levels)


def test_the_search_keeps_the_papers_interval_and_corpus() -> None:
    search, paper = (load_search(DIRECTORY / f"{name}.yaml") for name in ("cvss", "paper"))
    assert search.base.corpus == paper.base.corpus
    run = search.run_for("pt", search.reference("paper"))
    ratios = run.schedule.values(0, run.training.steps, run.training.steps)
    assert ratios[299] == 0.9 and ratios[300] == 0.8 and ratios[2699] == 0.1 and ratios[2700] == 0


def test_the_cluster_ones_fit_into_a_node_of_eight_gpus() -> None:
    for name in ("paper", "cvss"):
        cost = check(DIRECTORY / f"{name}.yaml").cost
        assert cost is not None and cost.devices == 8
        trainer, evaluator = (sum(cost.memory[name].values()) for name in cost.limits)
        assert 40e9 < trainer < 80e9 > evaluator


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
