"""Where a search runs, in a file of its own: what is trained stays the same."""

from __future__ import annotations

from pathlib import Path

import pytest

import raystt
from raystt.checking import check
from raystt.cluster.plan import planned
from raystt.config import ConfigError, load_any, load_search, to_yaml
from raystt.errors import BadInput

ROOT = Path(__file__).resolve().parents[2]
FIRST = ROOT / "search_spaces/first.yaml"
INFRA = sorted((ROOT / "cluster/infra").glob("*.yaml"))
GPUS = {"laptop": 0, "cpu": 0, "1x8": 8, "2x8": 16, "auto": 8}


@pytest.mark.parametrize("path", INFRA, ids=lambda path: path.stem)
@pytest.mark.parametrize("space", ["first", "paper"])
def test_the_shipped_ones_change_where_alone(space: str, path: Path) -> None:
    plain = load_search(ROOT / f"search_spaces/{space}.yaml")
    search = load_search(ROOT / f"search_spaces/{space}.yaml", path)
    r = search.base.resources
    if path.stem == "auto":
        r = planned(r, [{"CPU": 64.0, "GPU": 8.0}])
    assert r.trainers * r.gpus_per_worker + r.evaluators * r.gpus_per_evaluator == GPUS[path.stem]
    assert r.encoders * r.gpus_per_encoder in (0, GPUS[path.stem])
    changed = {"storage": search.base.storage, "resources": search.base.resources}
    corpus = plain.base.corpus.model_copy(update={
        "path": search.base.corpus.path, "sources": search.base.corpus.sources,
    })  # fmt: skip
    base = plain.base.model_copy(update=changed | {"corpus": corpus})
    assert search == plain.model_copy(update={"base": base})


def test_relative_paths_start_at_the_root(tmp_path: Path) -> None:
    infra = tmp_path / "infra.yaml"
    infra.write_text("root: /mnt/all\n")
    search = load_search(FIRST, infra)
    assert search.base.storage == "/mnt/all/runs"
    assert search.base.corpus.path == "/mnt/all/data/first"
    run = tmp_path / "run.yaml"
    run.write_text(
        "name: mine\nstorage: /elsewhere\ncorpus:\n  reader: manifest\n"
        "  sources: {manifest: recordings.tsv}\n  languages: {es: {train: 20}}\n"
        "  tokenizer: some/model\n  alignment: {method: equal}\nmodel: {base: some/model}\n"
    )
    read = load_any(run, infra)
    assert read.storage == "/elsewhere"
    assert read.corpus.path == "/mnt/all/data/embedded"
    assert read.corpus.sources.manifest == "/mnt/all/recordings.tsv"


def test_mistakes_are_named_in_the_file_that_has_them(tmp_path: Path) -> None:
    infra = tmp_path / "infra.yaml"
    infra.write_text("resources:\n  trainers: 1\n  gpu_per_worker: 1\n")
    with pytest.raises(ConfigError) as caught:
        load_search(FIRST, infra)
    (problem,) = caught.value.problems
    assert (problem.file, problem.line) == (str(infra), 3)
    assert problem.key == "resources.gpu_per_worker" and "gpus_per_worker" in problem.fix

    infra.write_text("# many\nresources:\n  cpus: 2\n  trainers: 9\n")
    (problem,) = check(FIRST, infra).problems
    assert (problem.file, problem.line, problem.key) == (str(infra), 4, "resources.trainers")

    infra.write_text("root: s3://\n")
    with pytest.raises(ConfigError, match=r"infra.yaml:1: root: .* s3://bucket/runs"):
        load_search(FIRST, infra)


def test_a_store_may_be_the_root(tmp_path: Path) -> None:
    infra = tmp_path / "infra.yaml"
    infra.write_text("root: s3://bucket/all/\n")
    base = load_search(FIRST, infra).base
    assert (base.storage, base.corpus.path) == (
        "s3://bucket/all/runs", "s3://bucket/all/data/first",
    )  # fmt: skip


def test_what_is_wrong_with_the_space_stays_there(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text(FIRST.read_text().replace("trials: 4", "trials: 0"))
    with pytest.raises(ConfigError) as caught:
        load_search(space, ROOT / "cluster/infra/laptop.yaml")
    assert {problem.file for problem in caught.value.problems} == {str(space)}


def test_auto_is_a_word_or_a_key(tmp_path: Path) -> None:
    for text in ("resources: auto\n", "resources: {auto: true}\n"):
        (tmp_path / "infra.yaml").write_text(text)
        found = load_search(FIRST, tmp_path / "infra.yaml").base.resources
        assert found.auto and found.address is None
    again = tmp_path / "again.yaml"
    again.write_text(to_yaml(load_search(FIRST, tmp_path / "infra.yaml")))
    assert load_search(again).base.resources == found
    (tmp_path / "infra.yaml").write_text("resources: {auto: true, trainers: 3}\n")
    with pytest.raises(ConfigError, match="infra.yaml:1: resources.auto: trainers: sizes that"):
        load_search(FIRST, tmp_path / "infra.yaml")


def test_a_check_says_what_the_sizes_become(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(tmp_path)
    infra = tmp_path / "infra.yaml"
    infra.write_text("resources: {auto: true, cpus: 8}\n")
    notes = check(FIRST, infra).notes
    assert "nodes: 1, with 8 CPUs and 0 GPUs" in notes
    assert any(note.startswith("trainers: 4, of 1 workers (1 CPU") for note in notes)

    infra.write_text("root: /mnt\nresources: {auto: true, address: auto}\n")
    assert any("check --cluster" in note for note in check(FIRST, infra).notes)
    report = check(FIRST, infra, [{"CPU": 64.0, "GPU": 8.0}] * 2)
    assert "nodes: 2, with 128 CPUs and 16 GPUs" in report.notes
    assert report.cost is not None and report.cost.devices == 16

    infra.write_text(
        "root: /mnt\nresources:\n  address: auto\n  trainers: 9\n  gpus_per_worker: 1\n"
    )
    found = [p for p in check(FIRST, infra, [{"CPU": 64.0, "GPU": 8.0}]).problems]
    (problem,) = [p for p in found if p.key == "resources.trainers"]
    assert (problem.file, problem.line) == (str(infra), 4)
    assert "1 x worker of a trainer (0.5 CPU, 1 GPU)" in problem.reason


def test_a_config_made_in_python_has_its_own_resources() -> None:
    with pytest.raises(BadInput, match="infra: 2x8.yaml would replace `resources`"):
        raystt.check(load_search(FIRST), infra="2x8.yaml")


def test_a_search_without_a_base_is_told_that_alone(tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("name: x\nlanguages: [es]\ntrials: 3\nspace: {}\n")
    with pytest.raises(ConfigError) as caught:
        load_any(space, ROOT / "cluster/infra/laptop.yaml")
    assert [problem.key for problem in caught.value.problems] == ["base"]


def test_sizes_that_are_unknown_cost_nothing_yet(tmp_path: Path) -> None:
    infra = tmp_path / "infra.yaml"
    infra.write_text("root: /mnt\nresources: {auto: true, address: auto}\n")
    assert check(FIRST, infra).cost is None
