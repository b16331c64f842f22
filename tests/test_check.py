"""`check`: everything a config needs, looked at without Ray, torch or a cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from messages import tells

from raystt.checking import Report, check, check_prepared, check_run, error_dict
from raystt.config import ConfigError, load_run, load_search
from raystt.corpus.card import (
    Card,
    CodebookCard,
    Part,
    ShardEntry,
    SideCard,
    SplitCard,
    TokenizerCard,
    UnitsCard,
)
from raystt.corpus.rows import Row, RowSide
from raystt.corpus.shards import split_directory, write_shard

RUN = """\
name: r
corpus:
  path: {corpus}
  languages:
    es: {{train: 20, dev: 3, test: 2}}
training: {{steps: 10, batch_utterances: 4}}
resources: {{cpus: 2}}
"""

SEARCH = """\
name: s
languages: [es, fr]
trials: 6
space:
  schedule.initial: {{float: [0.5, 1.0]}}
base:
  corpus:
    path: {corpus}
    languages:
      es: {{train: 20}}
      fr: {{train: 30}}
  training: {{steps: 10, batch_utterances: 4}}
  resources: {{cpus: 2}}
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a directory of its own, on a machine that is in no Ray cluster."""
    monkeypatch.chdir(tmp_path)
    for name in ("RAY_ADDRESS", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))


def written(text: str, *changes: tuple[str, str]) -> str:
    text = text.format(corpus="corpus")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    Path("c.yaml").write_text(text, encoding="utf-8")
    return "c.yaml"


def problems(text: str, *changes: tuple[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check_run(written(text, *changes))
    return str(caught.value).splitlines()


def flat(report: Report) -> str:
    """Return what is printed, without the ends of its lines."""
    return " ".join(report.render().split())


def row(name: str, language: str, split: str) -> Row:
    """Return a pair of two words, with three units a side."""
    side = RowSide("two words", [5, 6], [0, 1, 2], [0, 1, 0], [1, 2, 1], [0, 2, 3], 0.24)
    return Row(name, language, split, side, side)


def prepare(config: str, *, transcribed: bool = True) -> Card:
    """Write a corpus that fits the config of a run: real shards, empty files for the rest."""
    corpus = load_run(config).corpus
    directory = Path(corpus.path)
    languages: dict[str, dict[str, SplitCard]] = {}
    for language, sizes in corpus.languages.items():
        languages[language] = {}
        for split, pairs in sizes.model_dump().items():
            path = f"{split_directory(language, split)}/part-00000.parquet"
            pairs = 4 if pairs is None else pairs
            rows = [row(f"{split}{i}", language, split) for i in range(pairs)]
            write_shard(rows, directory / path)
            shards = (ShardEntry(path, pairs),)
            side = SideCard(0.1, 2 * pairs, 3 * pairs)
            languages[language][split] = SplitCard(pairs, 0, side, side, shards)
    card = Card(
        reader="embedded",
        fingerprint="f",
        config=corpus.content(),
        tables={},
        unplaced=0,
        sample_rate=16000,
        target_language="en",
        transcribed=transcribed,
        languages=languages,
        tokenizer=TokenizerCard(
            "tokenizer", 10, 10, 10, bos=1, separator=3, eos=2, pad=0, mask=4, speech=5, text=6
        ),
        units=UnitsCard(
            total=4,
            frame_seconds=0.06,
            deduplicated=True,
            encoder="mfcc",
            source=CodebookCard("source.safetensors", 2, 0),
            target=CodebookCard("target.safetensors", 2, 2),
        ),
        vocoder=Part("conv", "vocoder"),
        asr=Part("pocketsphinx", "asr"),
        base="base",
    )
    for name in ("tokenizer", "vocoder", "asr", "base"):
        (directory / name).mkdir()
    for name in ("source", "target"):
        (directory / f"{name}.safetensors").touch()
    card.save(directory)
    return card


def test_a_good_search_is_reported() -> None:
    report = check(written(SEARCH))
    assert isinstance(report, Report)
    assert (report.kind, report.name, report.trials, report.steps) == ("search", "s", 12, 10)
    assert [(one.language, one.pairs, one.epochs) for one in report.languages] == [
        ("es", 20, 2.0), ("fr", 30, pytest.approx(4 / 3))
    ]  # fmt: skip
    assert report.schedules["none"].nominal == (0.0,) * 11
    assert report.schedules["constant"].nominal == (0.3,) * 11
    assert report.schedules["paper"].nominal[0] == 0.9
    assert report.schedules["paper"].nominal[8:] == (0.0, 0.0, 0.0)
    assert report.problems == report.warnings == ()
    (note,) = report.notes
    assert tells(note, "the corpus in corpus …not prepared…`raystt prepare c.yaml`")
    text = report.render()
    for part in ("trials   12", "10 steps of 4", "paper", "staircase 0.9→0 by 0.8", "note: "):
        assert part in text
    assert "is fine" in text.splitlines()[0]
    assert max(map(len, text.splitlines())) <= 80
    data = json.loads(json.dumps(report.as_dict()))
    assert data["tokens"] == report.tokens > 0
    assert data["languages"][0]["language"] == "es"


def test_a_good_run_with_its_corpus_is_counted() -> None:
    prepare(written(RUN))
    report = check("c.yaml")
    assert report.counted and report.notes == () and report.warnings == ()
    # 10 steps of 4 pairs of 3 + 3 units and <s>, separator, </s>
    assert report.tokens == 40 * 9
    thinking = check(
        written(RUN, ("training:", "interleaving: {format: chain_of_thought}\ntraining:"))
    )
    assert thinking.tokens == 40 * (6 + 4 + 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("steps: 10", "stepps: 10"),
            "c.yaml:6: training.stepps: …unknown…`steps`",
        ),
        (
            ("steps: 10", "steps: ten"),
            "c.yaml:6: training.steps: …whole number…'ten'…from 1 to 10000000",
        ),
        (
            ("training:", "schedule: {shape: linear, initial: 1.5}\ntraining:"),
            "c.yaml:6: schedule.initial: 1.5…from 0 to 1",
        ),
        (
            ("training:", "schedule: {shape: linear, hold: 0.5, end: 0.4}\ntraining:"),
            "c.yaml:6: schedule.end: 0.4…hold (0.5)…raise end…lower hold",
        ),
        (
            ("training:", "schedule: {shape: cosinus}\ntraining:"),
            "c.yaml:6: schedule.shape: 'cosinus'…`cosine`",
        ),
        (
            ("cpus: 2", "cpus: 2, data_cpus: 0"),
            "c.yaml:7: resources.data_cpus: …zero CPUs…give…0.5",
        ),
        (
            ("cpus: 2", "cpus: 2, cpus_per_worker: 1"),
            "c.yaml:7: resources.trainers: …2 trainers x 1 workers x 1 CPUs…"
            "1 evaluators x 0.25 CPUs…2.25 of 2 CPUs…lower resources.trainers…"
            "resources.cpus_per_worker…raise resources.cpus",
        ),
        (
            ("cpus: 2", "cpus: 2, data_cpus: 1"),
            "c.yaml:7: resources.data_cpus: 1 CPUs…2 trainers x 1 workers x 0.5 CPUs…"
            "1 evaluators x 0.25 CPUs…1.25 of 2 CPUs…at most 0.75…lower resources.trainers…"
            "resources.cpus_per_worker…raise resources.cpus",
        ),
        (
            ("batch_utterances: 4", "batch_utterances: 21"),
            "c.yaml:6: training.batch_utterances: 21…es has 20…at most 20…"
            "corpus.languages.es.train",
        ),
        (
            ("cpus: 2", "cpus: 9, workers_per_trainer: 5, cpus_per_worker: 0.1"),
            "c.yaml:6: training.batch_utterances: 4…5 workers…at least 5…"
            "lower resources.workers_per_trainer",
        ),
        (
            ("    es:", "    xx:"),
            "c.yaml:5: corpus.languages.xx: …'xx'…from: {languages}",
        ),
        (
            ("    es:", "    en:"),
            "c.yaml:5: corpus.languages.en: 'en'…target…remove it…corpus.target",
        ),
        (
            ("training:", "model: {base: ./llama}\ntraining:"),
            "c.yaml:6: model.base: …'./llama'…correct the name…`corpus`",
        ),
    ],
)
def test_a_bad_config_is_told_with_place_and_fix(change: tuple[str, str], message: str) -> None:
    from raystt.readers.grammar import LEXICONS

    known = ", ".join(name for name in LEXICONS if name != "en")
    (found,) = problems(RUN, change)
    assert tells(found, message.replace("{languages}", known))


def test_problems_of_several_kinds_are_told_together() -> None:
    found = problems(
        SEARCH, ("es: {train: 20}", "es: {train: 3}"), ("cpus: 2", "cpus: 2, data_cpus: 0")
    )
    assert [line.split(": ")[:2] for line in found] == [
        ["c.yaml:12", "base.training.batch_utterances"],
        ["c.yaml:13", "base.resources.data_cpus"],
    ]


def test_the_largest_batch_of_a_space_counts() -> None:
    found = problems(SEARCH, ("space:\n", "space:\n  training.batch_utterances: {int: [8, 64]}\n"))
    assert [line.split(": ")[:2] for line in found] == [
        ["c.yaml:5", "space.training.batch_utterances"]
    ] * 2


def test_an_address_leaves_the_counting_to_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    big = ("cpus: 2", "address: auto, trainers: 64")
    assert "cluster" in str(check(written(RUN, big)).notes)
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert "cluster" in str(check(written(RUN, ("cpus: 2", "trainers: 64"))).notes)


@pytest.mark.parametrize("config", [RUN, SEARCH])
def test_a_cluster_is_joined_with_absolute_paths(config: str, tmp_path: Path) -> None:
    joined = ("cpus: 2", "address: auto")
    found = problems(config, joined)
    assert {line.split(": ")[1].removeprefix("base.") for line in found} == {
        "storage", "corpus.path"
    }  # fmt: skip
    assert all("relative" in line and "mount" in line for line in found)
    placed = config.replace("{corpus}", f"{tmp_path}/corpus").replace(
        "  resources:" if config is SEARCH else "resources:",
        f"  storage: {tmp_path}\n  resources:" if config is SEARCH else
        f"storage: {tmp_path}\nresources:",
    )  # fmt: skip
    assert check(written(placed, joined)).problems == ()
    assert check(written(config, ("cpus: 2", "address: local"))).problems == ()


def test_a_missing_shard_is_named() -> None:
    prepare(written(RUN))
    path = Path("corpus/shards/language=es/split=train/part-00000.parquet")
    path.unlink()
    (problem,) = check("c.yaml").problems
    assert (problem.file, problem.line, problem.key) == ("c.yaml", 3, "corpus.path")
    assert f"{path} (es, train) is missing" in problem.reason
    assert problem.fix == "run `raystt prepare c.yaml`"


def test_a_damaged_or_short_shard_is_named() -> None:
    prepare(written(RUN))
    dev, test = (
        Path(f"corpus/shards/language=es/split={split}/part-00000.parquet")
        for split in ("dev", "test")
    )
    dev.write_bytes(b"not parquet")
    write_shard([row("a", "es", "test")], test)
    first, second = check("c.yaml").problems
    assert (first.line, first.key) == (second.line, second.key) == (3, "corpus.path")
    assert f"{dev} (es, dev) is not readable" in first.reason
    assert f"{test} (es, test) has 1 rows, the card says 2" in second.reason
    assert tells(second.fix, "delete …`raystt prepare c.yaml`")


def test_other_missing_files_are_named() -> None:
    prepare(written(RUN))
    Path("corpus/base").rmdir()
    (problem,) = check("c.yaml").problems
    assert "corpus/base, which the card names, is missing" in problem.reason
    assert problem.fix == "run `raystt prepare c.yaml`"


def test_a_corpus_of_another_config_is_refused() -> None:
    prepare(written(RUN))
    (problem,) = problems(RUN, ("train: 20", "train: 25"))
    for part in ("c.yaml:5: corpus.languages.es.train: ", "20 there, 25 asked", "delete corpus"):
        assert part in problem


def test_a_damaged_card_is_told() -> None:
    prepare(written(RUN))
    Path("corpus/card.json").write_text("{", encoding="utf-8")
    (problem,) = check("c.yaml").problems
    assert (problem.line, problem.key) == (3, "corpus.path")
    assert "card.json: not valid JSON" in problem.reason


@pytest.mark.parametrize(
    ("text", "change", "warning"),
    [
        (
            RUN,
            ("training:", "schedule: {shape: linear, final: 0.1}\ntraining:"),
            "schedule: linear 0.9→0.1 by 0.8 never reaches a ratio of 0",
        ),
        (
            SEARCH,
            ("space:\n", "space:\n  schedule.final: {choice: [0.0, 0.2]}\n"),
            "the space: staircase 0.5→0.2 by 0.8, step 0.1 never reaches a ratio of 0",
        ),
        (
            SEARCH,
            ("trials: 6", "trials: 6\nreference_schedules: {paper: {shape: linear, final: 0.1}}"),
            "paper: linear 0.9→0.1 by 0.8 never reaches a ratio of 0",
        ),
        (
            SEARCH,
            ("space:\n", "space:\n  schedule.shape: {choice: [knots, cosine, linear]}\n"),
            "knots and linear schedules are the same ones in this space",
        ),
        (
            RUN,
            ("training:", "evaluation: {sentences: 9}\ntraining:"),
            "evaluation.sentences is 9, but es has 3 pairs in dev",
        ),
    ],
)
def test_what_is_allowed_but_odd_is_warned_of(
    text: str, change: tuple[str, str], warning: str
) -> None:
    report = check(written(text, change))
    assert [given[: len(warning)] for given in report.warnings] == [warning]
    assert f"warning: {warning}" in flat(report)


def test_keys_that_change_no_schedule_are_told() -> None:
    shapes = "space:\n  schedule.shape: {choice: [constant, linear]}\n"
    report = check(written(SEARCH, ("space:\n", shapes + "  schedule.end: {float: [0.5, 1]}\n")))
    assert any(w.startswith("schedule.end changes nothing of a constant") for w in report.warnings)
    assert not any(w.startswith("schedule.initial") for w in report.warnings)


@pytest.mark.parametrize(
    ("space", "trials", "new"),
    [
        # The paper's schedule, which is that of `base`, is a point of most.
        ("schedule.initial: {choice: [0.5, 0.7, 0.9]}", 7, 2),
        ("schedule.initial: {choice: [0.5, 0.7, 0.9]}", 6, None),
        ("schedule.initial: {choice: [0.5, 0.7, 0.8]}", 7, None),
        ("training.batch_utterances: {int: [2, 20]}", 22, None),
        ("training.batch_utterances: {int: [2, 20]}", 25, 18),
        ("schedule.initial: {float: [0.5, 1.0]}", 99999, None),
    ],
)
def test_more_trials_than_points_are_warned_of(space: str, trials: int, new: int | None) -> None:
    entry = "schedule.initial: {float: [0.5, 1.0]}"
    report = check(written(SEARCH, (entry, space), ("trials: 6", f"trials: {trials}")))
    told = [text for text in report.warnings if text.startswith("trials: ")]
    assert len(told) == (0 if new is None else 2)
    for language, text in zip(("es", "fr"), told, strict=False):
        assert f"{trials - 4} proposals are asked for {language}" in text
        assert f"has {new} points beside" in text


CVSS = """\
name: r
corpus:
  reader: cvss
  path: corpus
  sources: {common_voice: "cv/{language}", covost: covost, cvss: cvss}
  languages:
    fr: {train: null, dev: 50, test: null}
  units: {encoder: facebook/w2v-bert-2.0, layer: 20, source: 2048, target: null, deduplicate: false}
  alignment: {method: mms_fa}
  tokenizer: meta-llama/Llama-3.2-1B
model: {base: meta-llama/Llama-3.2-1B}
evaluation: {asr: whisper, max_new_tokens: 600}
training: {steps: 10, batch_utterances: 4}
resources: {cpus: 2}
"""


def of_cvss(*changes: tuple[str, str]) -> str:
    text = CVSS
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    Path("c.yaml").write_text(text, encoding="utf-8")
    return "c.yaml"


def test_recordings_that_are_elsewhere_are_an_error_beside_the_estimates() -> None:
    Path("covost").mkdir()
    report = check(of_cvss())
    assert report.warnings == ()
    assert [(one.line, one.key, one.reason) for one in report.problems] == [
        (5, f"corpus.sources.{name}", f"{path} is not on this machine")
        for name, path in (("common_voice", "cv/fr"), ("cvss", "cvss"))
    ]
    with pytest.raises(ConfigError) as caught:
        check_run("c.yaml")
    assert caught.value.problems == report.problems
    assert any("model.base 'meta-llama/Llama-3.2-1B'" in note for note in report.notes)
    assert report.languages[0].pairs is None
    assert report.languages[0].epochs == pytest.approx(40 / 129600)
    assert "guessed from the hours in the paper: fr 129600" in report.notes[-1]
    text = report.render()
    assert "has 2 problems" in text.splitlines()[0] and "GPU-hours" not in text
    assert "  fr                all       1" in text and "CPU-hours" in text
    data = report.as_dict()
    assert data["problems"][0]["key"] == "corpus.sources.common_voice"
    assert data["error"] == str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("model: {base: meta-llama/Llama-3.2-1B}\n", ""),
            "c.yaml:1: model.base: `corpus`…`reader: cvss`…name a pretrained one…corpus.tokenizer",
        ),
        (
            ("asr: whisper, ", ""),
            "c.yaml:12: evaluation.asr: …pocketsphinx…`reader: cvss`…"
            "from: whisper, fairseq-wav2vec2",
        ),
        (
            ("tokenizer: meta-llama", "tokenizer: ./meta-llama"),
            "c.yaml:10: corpus.tokenizer: …'./meta-llama/Llama-3.2-1B'…correct the name",
        ),
    ],
)
def test_what_only_the_embedded_corpus_has_is_refused(
    change: tuple[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check_run(of_cvss(change))
    assert any(tells(line, message) for line in str(caught.value).splitlines())


def test_speech_that_would_be_cut_off_is_warned_of() -> None:
    report = check(of_cvss(("max_new_tokens: 600", "max_new_tokens: 160")))
    (warning,) = report.warnings
    assert warning.startswith("evaluation.max_new_tokens is 160, but an output of fr is 201 tokens")


def test_units_too_long_for_recordings_are_warned_of() -> None:
    encoder = "encoder: facebook/w2v-bert-2.0, layer: 20"
    (warning,) = check(of_cvss((encoder, "encoder: mfcc"))).warnings
    assert warning.startswith("corpus.units.encoder: ") and "mfcc_20ms" in warning
    assert check(of_cvss((encoder, "encoder: mfcc_20ms"))).warnings == ()


MANIFEST = (
    ("reader: cvss", "reader: manifest"),
    ('{common_voice: "cv/{language}", covost: covost, cvss: cvss}', "{manifest: m.tsv}"),
    ("{train: null, dev: 50, test: null}", "{train: null, dev: 1, test: null}"),
)


def write_manifest(*, text: str = "un mot", rows: int = 8, bad: int = 0) -> None:
    lines = ["id\tlanguage\tsource_audio\tsource_text\ttarget_audio\ttarget_text\tsplit"]
    for split in ("train", "dev", "test"):
        for i in range(rows + bad):
            audio = "a.wav" if i < rows else "absent.wav"
            lines.append(f"{split}{i}\tfr\t{audio}\t{text}\ta.wav\ta word\t{split}")
    Path("a.wav").touch()
    Path("m.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")


def test_a_manifest_is_read_before_it_is_prepared() -> None:
    write_manifest()
    report = check(of_cvss(*MANIFEST))
    assert report.problems == ()
    assert (report.languages[0].pairs, report.languages[0].epochs) == (8, 5.0)
    write_manifest(rows=3)
    (problem,) = check("c.yaml").problems  # 4 utterances a step
    assert problem.key == "training.batch_utterances" and "3 training pairs" in problem.reason
    write_manifest(bad=2)
    problems = check("c.yaml").problems
    assert {(one.line, one.key) for one in problems} == {(7, "corpus.languages.fr")}
    assert "2 of 10 rows of train" in problems[0].reason
    assert "m.tsv:10: no such source audio" in problems[0].reason
    write_manifest()
    lines = Path("m.tsv").read_text(encoding="utf-8").splitlines()
    lost = [line.rpartition("\t")[0] + "\t" for line in lines[1:4]]  # a row without its split
    Path("m.tsv").write_text("\n".join([*lines, *lost]) + "\n", encoding="utf-8")
    (problem,) = check("c.yaml").problems
    assert (problem.line, problem.key) == (5, "corpus.sources")
    assert "3 of 27 rows cannot be used" in problem.reason and "m.tsv:26" in problem.reason
    Path("m.tsv").write_text("id\tlanguage\n", encoding="utf-8")
    (problem,) = check("c.yaml").problems
    assert (problem.line, problem.key) == (5, "corpus.sources")
    assert "m.tsv: there is no column 'source_audio'" in problem.reason


@pytest.mark.parametrize("keys", ["{side: source}", "{side: target, format: chain_of_thought}"])
def test_source_text_that_a_manifest_lacks_is_missed_before_training(keys: str) -> None:
    write_manifest(text="")
    model = "model: {base: meta"
    (problem,) = check(of_cvss(*MANIFEST, (model, f"interleaving: {keys}\n{model}"))).problems
    assert (problem.line, problem.key) == (11, "interleaving")
    assert "source text" in problem.reason
    target = (model, f"interleaving: {{side: target}}\n{model}")
    assert check(of_cvss(*MANIFEST, target)).problems == ()


def test_models_that_cannot_be_loaded_are_told_before_training(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write_manifest()

    def of(name: str) -> Report:
        asr = ("asr: whisper", f"asr: whisper, asr_model: {name}")
        return check(of_cvss(*MANIFEST, asr))

    for name, reason in (
        ("./whisper", "no directory './whisper'"),
        ("open/ai/whisper", "'open/ai/whisper' is neither a directory nor"),
        ("models", "has no config.json"),
    ):
        Path("models").mkdir(exist_ok=True)
        (problem,) = of(name).problems
        assert (problem.line, problem.key) == (12, "evaluation.asr_model")
        assert reason in problem.reason
    (warning,) = of("models/whisper-tiny").warnings
    assert "evaluation.asr_model" in warning and "'models' is one" in warning
    Path("models/config.json").write_text("{}")
    assert of("models").problems == of("openai/whisper-tiny").warnings == ()

    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "'openai/whisper-tiny' is not in the hub's cache" in str(
        of("openai/whisper-tiny").warnings
    )
    snapshot = Path("hub/models--openai--whisper-tiny/snapshots/abc")
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_text("{}")
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs/main").write_text("abc")
    assert not any("whisper-tiny" in one for one in of("openai/whisper-tiny").warnings)


def test_a_recogniser_that_does_not_fit_is_refused() -> None:
    fitted = ("training:", "evaluation: {asr_model: openai/whisper-tiny}\ntraining:")
    (problem,) = check(written(RUN, fitted)).problems
    assert (problem.line, problem.key) == (6, "evaluation.asr_model")
    french = ("languages:", "target: de\n  languages:")
    english = ("training:", "evaluation: {asr: fairseq-wav2vec2}\ntraining:")
    target, problem = check(written(RUN, french, english)).problems
    assert target.key == "corpus.target" and "'de'" in target.reason
    assert problem.key == "evaluation.asr" and "English" in problem.reason


def test_a_place_that_cannot_be_written_to_is_refused() -> None:
    for key, text in (("storage", RUN + "storage: {place}\n"), ("corpus.path", RUN)):
        path = "c.yaml/x" if key == "storage" else "corpus"
        config = text.format(corpus="c.yaml/x" if key == "corpus.path" else "corpus", place=path)
        Path("c.yaml").write_text(config, encoding="utf-8")
        (problem,) = check("c.yaml").problems
        assert problem.key == key and "c.yaml cannot be written to" in problem.reason
    (problem,) = check(written(RUN, ("training:", "evaluation: {utmos: u.pt}\ntraining:"))).problems
    assert problem.key == "evaluation.utmos" and "'u.pt'" in problem.reason


def test_a_config_without_a_file_is_checked_too() -> None:
    run = load_run(written(RUN))
    assert check_run(run).file == ""
    wrong = run.model_copy(update={"storage": "c.yaml/runs"})
    with pytest.raises(ConfigError, match=r"^storage: .*c.yaml cannot be written to"):
        check_run(wrong)


def test_a_search_made_in_python_is_checked_between_its_keys() -> None:
    search = load_search(written(SEARCH))
    assert check_run(search).trials == 12
    with pytest.raises(ConfigError, match=r"^trials: 1 "):
        check(search.model_copy(update={"trials": 1}))


def test_a_run_without_ray_needs_no_resources() -> None:
    path = written(RUN, ("cpus: 2", "cpus: 2, trainers: 64"))
    assert check_run(path, local=True).problems == check(path).problems != ()
    with pytest.raises(ConfigError, match=r"resources\.trainers"):
        check_run(path)


def test_what_only_a_prepared_corpus_shows_is_told_then() -> None:
    told: list[str] = []
    write_manifest()
    five = ("batch_utterances: 4", "batch_utterances: 5")
    before = check_run(of_cvss(*MANIFEST, five))
    prepare("c.yaml")  # leaves 4 of the 8 pairs, as where the others cannot be heard
    with pytest.raises(ConfigError) as caught:
        check_prepared(before, "c.yaml", None, told.append)
    assert tells(str(caught.value), "c.yaml:…training.batch_utterances:…fr has 4 training pairs")
    heard = ("dev: 1", "dev: null"), ("max_new_tokens: 600", "max_new_tokens: 600, sentences: 6")
    text = ("training:", "schedule: {shape: constant, initial: 0.5}\ntraining:")
    shutil.rmtree("corpus")
    before = check_run(of_cvss(*MANIFEST, *heard, text))
    prepare("c.yaml")
    check_prepared(before, "c.yaml", None, told.append)
    assert before.warnings  # which are not told again
    (warning,) = told
    assert tells(warning, "warning: evaluation.sentences is 6, but fr has 4 pairs in dev")
    check_prepared(check_run("c.yaml"), "c.yaml", None, told.append)  # was prepared before
    assert len(told) == 1


def test_errors_are_data_too() -> None:
    with pytest.raises(ConfigError) as caught:
        check(written(RUN, ("steps: 10", "stepps: 10")))
    data = json.loads(json.dumps(error_dict(caught.value)))
    assert data["error"] == str(caught.value)
    (problem,) = data["problems"]
    assert (problem["file"], problem["line"], problem["key"]) == ("c.yaml", 6, "training.stepps")
    assert problem["reason"] and problem["fix"]
    assert error_dict(FileNotFoundError("gone"))["problems"] == []


def test_source_speech_without_text_is_not_interleaved() -> None:
    prepare(written(RUN), transcribed=False)
    (problem,) = problems(RUN)
    assert tells(problem, "c.yaml:1: interleaving: …side: both…source text…side: target")
    target = ("training:", "interleaving: {side: target}\ntraining:")
    assert check(written(RUN, target)).counted


ABLATED = (
    "space:\n",
    "ablations:\n  source_only: {set: {interleaving.side: source}, languages: [fr]}\n"
    "  words: {set: {interleaving.rule: independent}}\nspace:\n",
)


def test_ablations_are_counted_and_shown() -> None:
    report = check(written(SEARCH, ABLATED, ("trials: 6", "trials: 7")))
    assert [one.trials for one in report.languages] == [7, 7]
    shown = report.schedules
    assert list(shown) == ["none", "paper", "constant", "thirds", "source_only", "words"]
    assert shown["source_only"] == shown["paper"]
    assert shown["words"].achieved == shown["words"].nominal
    assert shown["paper"].achieved[7] > shown["paper"].nominal[7] + 0.1
    assert shown["none"].achieved == (0.0,) * 11
    text = flat(report)
    assert "staircase 0.9→0 by 0.8, step 0.1; also source_only" in text
    assert "achieved" in text and "CPU-hours" in text and "corpus.base" in text
    fixed = check(
        written(
            SEARCH, ABLATED, ("trials: 6", "trials: null"),
            ("space:\n  schedule.initial: {{float: [0.5, 1.0]}}".replace("{{", "{")
             .replace("}}", "}"), "space: {}"),
        )
    )  # fmt: skip
    assert [one.trials for one in fixed.languages] == [5, 6]


def test_it_imports_nothing_that_takes_seconds() -> None:
    prepare(written(RUN))
    heavy = ["ray", "torch", "transformers", "optuna", "deepspeed", "sklearn"]
    code = f"""
        import sys
        from raystt.checking import check
        print(check("c.yaml").render())
        print(*(name for name in {heavy} if name in sys.modules))
    """
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == ""


def test_models_that_do_not_go_together_are_noticed(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "search_spaces" / "paper.yaml").read_text()
    other = tmp_path / "other.yaml"
    other.write_text(
        text.replace("tokenizer: meta-llama/Llama-3.2-1B", "tokenizer: Qwen/Qwen3-1.7B")
    )
    (warning,) = check(other).warnings
    assert "Qwen/Qwen3-1.7B" in warning and "meta-llama/Llama-3.2-1B" in warning
    other.write_text(text.replace("source: 2048", "source: 2048\n      codebook: kmeans.npy"))
    assert ("base.corpus.units.codebook", "there is no file 'kmeans.npy'") in [
        (one.key, one.reason) for one in check(other).problems
    ]
