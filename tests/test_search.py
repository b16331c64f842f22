"""Real searches end to end: speech, Ray, DeepSpeed, Optuna and the recogniser, only smaller.

One corpus is prepared for all of them. A search is a process of its own, as a user starts it.
"""

from __future__ import annotations

import json
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import soundfile
import yaml
from searches import Search, small_search
from transformers import AutoModelForCausalLM

import raystt
from raystt.cli import main
from raystt.config import load_search, to_yaml
from raystt.lines import read
from raystt.readers.utterance import audio_path

LANGUAGES = ("es", "fr")
REFERENCES = ("none", "paper")
TRIALS = 3


def small_space(place: Path, corpus: Path) -> Path:
    """Write the YAML of a small search."""
    path = place / "small.yaml"
    config = small_search(place, corpus, LANGUAGES)
    config |= {"trials": TRIALS, "references": list(REFERENCES), "confirm": {"top": 1, "seeds": 2}}
    path.write_text(yaml.safe_dump(config, sort_keys=False))
    return path


@pytest.fixture
def space(tmp_path: Path, small_corpus: Path) -> Path:
    return small_space(tmp_path, small_corpus)


def assert_complete(directory: Path) -> None:
    """Every trial was finished once, under its own number, and is in the summary."""
    results = read(directory / "results.jsonl")
    trials = Counter((r.language, r.trial) for r in results if r.split == "dev")
    assert trials == Counter({(lang, n): 1 for lang in LANGUAGES for n in range(TRIALS)})
    summary = json.loads((directory / "summary.json").read_text())
    assert summary["trials"] == TRIALS * len(LANGUAGES)
    for language in LANGUAGES:
        entry = summary["languages"][language]
        assert tuple(entry["references"]) == REFERENCES
        mine = [r for r in results if r.split == "dev" and r.language == language]
        proposed = [r.asr_bleu for r in mine if r.reference is None]
        assert entry["best"]["asr_bleu"] == max(proposed) and max(r.asr_bleu for r in mine) > 0
        # What leads, and the paper's schedule, were trained anew on a fresh seed.
        assert "the paper's staircase" in entry["verdict"]
        for entered in (entry["best"], entry["references"]["paper"]):
            fresh = entered["fresh"]
            assert (
                fresh["seeds"] == [2, 3] and fresh["ci"][0] <= fresh["asr_bleu"] <= fresh["ci"][1]
            )
        assert entry["best"]["difference"]["paper"]["asr_bleu"] == pytest.approx(
            entry["best"]["fresh"]["asr_bleu"] - entry["references"]["paper"]["fresh"]["asr_bleu"]
        )
        assert isinstance(entry["best"]["optimism"], float)
        for run in (*entry["references"].values(), entry["best"]):
            assert run["ci"][0] <= run["asr_bleu"] <= run["ci"][1]
            assert run["test"]["sentences"] == 6
        folder = directory / "best" / language
        best = yaml.safe_load((folder / "config.yaml").read_text())
        chosen = next(r for r in mine if r.trial == entry["chosen"]["trial"])
        assert best["schedule"] == chosen.schedule.model_dump()
        assert chosen.reference == "paper" or entry["verdict"].startswith("better than")
        assert entry["verdict"] in (folder / "README.md").read_text()
        assert AutoModelForCausalLM.from_pretrained(folder / "model").num_parameters() > 10_000
        assert entry["signature"] in (folder / "README.md").read_text()
    # Tune, Optuna and the results know the same trials, each once.
    run = raystt.open_run(directory)
    scored = {(r.language, r.trial): r.asr_bleu for r in run.results}
    known = run.experiment.dataframe()
    assert len(known) == len(scored)
    pairs = zip(known["config/language"], known["config/trial"], strict=True)
    assert dict(zip(pairs, known.asr_bleu, strict=True)) == scored
    for language in LANGUAGES:
        told = {(language, t.number): t.value for t in run.study(language).trials}
        assert told == {key: score for key, score in scored.items() if key[0] == language}
    assert summary["confirm"] == {"top": 1, "seeds": 2, "certificate": False, "missing": 0}
    assert (directory / "results.csv").read_text() == run.trials.to_csv(index=False)
    for part in ("asr:pocketsphinx", "vocoder:", "norm:plain", "tok:13a"):
        assert part in summary["signature"]


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, small_corpus: Path) -> Search:
    """A search that has ended."""
    search = Search(small_space(tmp_path_factory.mktemp("searched"), small_corpus))
    search.wait()
    return search


def test_a_search(searched: Search) -> None:
    text, directory = searched.printed, searched.directory
    assert_complete(directory)
    assert (directory / "report" / "schedules.png").stat().st_size > 10_000
    environment = raystt.open_run(directory).environment
    assert environment["versions"]["ray"] == version("ray") and environment["cpus"] >= 1
    page = (directory / "report" / "index.html").read_text()
    # Two languages, six sentences, source and reference and what "none", "paper" and the best said.
    assert page.count("<audio") >= 2 * 6 * 3 and "finished: 6 of 6 trials" in page
    assert "paper" in (directory / "report" / "table.md").read_text()
    for language in LANGUAGES:
        for number in range(TRIALS):
            trial = directory / "trials" / f"{language}-{number:03d}"
            lines = [json.loads(line) for line in (trial / "train.jsonl").open()]
            assert lines[-1]["step"] == 60
            assert list(trial.glob("events.out.tfevents.*"))
            heard = [json.loads(line) for line in (trial / "hypotheses-dev.jsonl").open()]
            assert len(heard) == 6 and all(
                len(line["statistics"]["asr_bleu"]) == 10 for line in heard
            )
    none = json.loads((directory / "trials/es-000/train.jsonl").read_text().splitlines()[0])
    paper = json.loads((directory / "trials/es-001/train.jsonl").read_text().splitlines()[0])
    assert none["achieved_words"] == 0.0 < 0.6 < paper["achieved_words"]
    # A good run is quiet: progress, the table, and where things are.
    assert "Traceback" not in text, text
    assert "WARNING" not in text and "(raylet)" not in text, text
    assert len(text.splitlines()) < 80, text
    assert "http://127.0.0.1:" in text  # Ray's dashboard
    ends = [line for line in text.splitlines() if line.startswith("[") and "/6 " in line]
    assert len(ends) > 3 and all(", about " in line and " left" in line for line in ends[2:-1]), (
        text
    )
    # Only the models of the best and of the fixed runs are kept.
    run = raystt.open_run(directory)
    results = [r for r in run.results if r.split == "dev"]
    kept = [r.states[-1] for r in [*results, *(b.result for b in run.best.values())]
            if r.reference or run.best[r.language].result == r]  # fmt: skip
    assert {path.name for path in (directory / "states").iterdir()} == set(kept)
    before = (directory / "journal.log").read_bytes()
    assert main(["search", str(searched.space)]) == 0  # shown again, nothing is run again
    assert (directory / "journal.log").read_bytes() == before


def test_what_a_kill_left_unconfirmed_is_trained_again(
    searched: Search, ray_local: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """That, and nothing else; and it comes to the same."""
    directory = searched.directory
    confirmed = read(directory / "confirmation.jsonl")
    lines = (directory / "confirmation.jsonl").read_text().splitlines(keepends=True)
    (directory / "confirmation.jsonl").write_text("".join(lines[:-1]))
    (directory / "summary.json").unlink()
    assert main(["search", str(searched.space), "--resume"]) == 0
    assert "confirming on fresh seeds: 1 trainings, schedules: 1" in capsys.readouterr().err
    again = read(directory / "confirmation.jsonl")
    assert [(r.label, r.seed, r.split, r.asr_bleu, r.states) for r in again] == [
        (r.label, r.seed, r.split, r.asr_bleu, r.states) for r in confirmed
    ]


def test_one_run_is_trained_and_evaluated(
    ray_local: str, space: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = load_search(space).run_for("es", {"schedule.shape": "linear"}, name="final")
    path = space.with_name("run.yaml")
    training = run.training.model_copy(update={"checkpoint_every": 30})
    whole = run.model_copy(update={"training": training})

    def cli(verb: str, given: Path, *options: str) -> list[dict[str, Any]]:
        capsys.readouterr()
        assert main([verb, str(given), "--json", *options]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    path.write_text(to_yaml(whole))
    trained = cli("train", path)
    assert [score["split"] for score in trained] == ["dev", "test"]
    directory = space.parent / "runs" / "final"
    assert len(list((directory / "states").iterdir())) == 1
    assert AutoModelForCausalLM.from_pretrained(directory / "model").num_parameters() > 10_000
    (again,) = cli("evaluate", directory, "--split", "dev")  # as `best/es` of a search
    for key in ("asr_bleu", "ci", "signature", "sentences"):
        assert again[key] == trained[0][key]
    # A recording of dev becomes the speech that was scored.
    line = json.loads((directory / "hypotheses-dev.jsonl").open().readline())
    flac = audio_path(Path(run.corpus.path), "es", "dev", line["id"], "source")
    for given, out in ((directory, "out.wav"), (path, "out.mp3")):
        capsys.readouterr()
        spoken = space.with_name(out)
        assert main(["translate", str(given), str(flac), "-o", str(spoken), "--json"]) == 0
        told = json.loads(capsys.readouterr().out)
        assert told["heard"] == line["hypothesis"] and "written_source" not in told
        assert soundfile.info(spoken).duration == pytest.approx(line["seconds"], abs=0.1)
    # In one process without Ray: the same steps, the same model, the same scores.
    path.write_text(to_yaml(whole.model_copy(update={"name": "alone"})))
    alone = cli("train", path, "--local")
    for key in ("asr_bleu", "ci", "signature", "sentences"):
        assert [one[key] for one in alone] == [one[key] for one in trained]
    # What will score a run is loaded before it is trained.
    deaf = space.with_name("deaf")
    deaf.mkdir()
    (deaf / "config.json").write_text("{}")
    heard = whole.evaluation.model_copy(update={"asr": "whisper", "asr_model": str(deaf)})
    path.write_text(to_yaml(whole.model_copy(update={"name": "unheard", "evaluation": heard})))
    assert main(["train", str(path), "--local"]) == 2
    assert str(deaf) in capsys.readouterr().err
    assert not (directory.parent / "unheard" / "states").exists()
    # What decides no score may change on a resume; what does may not.
    changed = training.model_copy(update={"log_every": 5})
    path.write_text(to_yaml(run.model_copy(update={"training": changed})))
    resumed = cli("train", path, "--resume", "--local")
    assert [one["asr_bleu"] for one in resumed] == [one["asr_bleu"] for one in trained]
    path.write_text(to_yaml(whole.model_copy(update={"seed": 2})))
    assert main(["train", str(path), "--resume"]) == 2
    assert "seed: 1 there, 2 asked" in capsys.readouterr().err


@pytest.mark.long
def test_the_neighbours_of_the_best_are_trained(ray_local: str, space: Path) -> None:
    config = yaml.safe_load(space.read_text()) | {
        "trials": 2, "languages": ["es", "fr"], "references": ["paper"],
        "space": {"schedule.shape": {"choice": ["linear"]}, "schedule.end": {"float": [0.6, 0.9]}},
        "confirm": {"top": 1, "seeds": 2, "certificate": True},
    }  # fmt: skip
    space.write_text(yaml.safe_dump(config, sort_keys=False))
    run = raystt.search(space, progress=False)
    confirmed = [r for r in read(run.path / "confirmation.jsonl") if r.split == "test"]
    for language in ("es", "fr"):
        best = run.summary.as_dict()["languages"][language]["best"]
        proof, end = best["certificate"], best["overrides"]["schedule.end"]
        assert {one["knob"]: one["value"] for one in proof["neighbours"]} == pytest.approx(
            {"schedule.end+": min(0.9, end + 0.03), "schedule.end-": max(0.6, end - 0.03)}
        )
        trained = Counter(r.knob for r in confirmed if r.language == language)
        assert trained == {"": 4, "schedule.end+": 2, "schedule.end-": 2}  # "": it, the paper's
        assert proof["verdict"].startswith(("at a top", "not at a top"))
        assert proof["verdict"] in (run.path / "report" / "table.md").read_text()
