"""Configs of a run: strict, with the line of every mistake."""

from __future__ import annotations

import copy
import pickle
import textwrap
from pathlib import Path
from typing import Any

import pytest
from messages import tells
from pydantic import ValidationError

from raystt.config import ConfigError, RunConfig, load_run, to_yaml
from raystt.config.yaml_source import dotted, dump, parse
from raystt.schedule import Staircase

MINIMAL = """\
name: first
corpus:
  languages:
    es: {train: 300}
"""


def written(directory: Path, text: str) -> Path:
    path = directory / "run.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def problems(directory: Path, text: str) -> list[str]:
    """Load a bad config; return its problems without the directory."""
    with pytest.raises(ConfigError) as caught:
        load_run(written(directory, text))
    return str(caught.value).replace(f"{directory}/", "").splitlines()


def test_a_minimal_run_has_all_defaults(tmp_path: Path) -> None:
    run = load_run(written(tmp_path, MINIMAL))
    assert run.language == "es"
    assert run.corpus.languages["es"].dev == 64
    assert run.schedule == Staircase(initial=0.9, final=0.0, hold=0.0, end=0.8, step=0.1)
    assert run.training.learning_rate == 2e-3


@pytest.mark.parametrize(
    ("added", "channels"),
    [("", 128), ("units: {encoder: facebook/w2v-bert-2.0}", 256), ("vocoder: {hidden: 64}", 64)],
)
def test_a_vocoder_of_many_units_is_wider(tmp_path: Path, added: str, channels: int) -> None:
    corpus = load_run(written(tmp_path, MINIMAL + f"  {added}\n")).corpus
    assert corpus.channels() == channels
    # Corpora that were prepared before there was such a key are those of its default.
    assert ("hidden" in corpus.content()["vocoder"]) == ("hidden" in added)


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    run = load_run(written(tmp_path, MINIMAL + "training: {learning_rate: 1e-5}\n"))
    assert load_run(written(tmp_path, to_yaml(run))) == run
    assert pickle.loads(pickle.dumps(run)) == run


@pytest.mark.parametrize(
    ("added", "told"),
    [
        ("trainig: {steps: 3}", "run.yaml:5: trainig: …`training`"),
        (
            "training:\n  steps: 10\n  batch_uterances: 3",
            "run.yaml:7: training.batch_uterances: …`batch_utterances`",
        ),
        (
            "training:\n  steps: many",
            "run.yaml:6: training.steps: …whole number…'many'…1 to 10000000",
        ),
        ("training: {steps: 3.5}", "run.yaml:5: training.steps: …whole number…3.5…1 to 10000000"),
        ("training: {steps: true}", "run.yaml:5: training.steps: …whole number…true…1 to 10000000"),
        (
            "training: {learning_rate: false}",
            "run.yaml:5: training.learning_rate: …number…false…0.002",
        ),
        (
            "training: {learning_rate: .inf}",
            "run.yaml:5: training.learning_rate: …finite…inf…0.002",
        ),
        ("training: {steps: 0}", "run.yaml:5: training.steps: 0 …under 1…1 to 10000000"),
        ("training: [1]", "run.yaml:5: training: …mapping…list"),
        ("training: {precision: fp16}", "run.yaml:5: training.precision: …'fp16'…`bf16`"),
        (
            "schedule:\n  shape: linear\n  initial: 1.2",
            "run.yaml:7: schedule.initial: 1.2 …over 1…0 to 1",
        ),
        (
            "schedule:\n  shape: linear\n  hold: 0.6\n  end: 0.5",
            "run.yaml:8: schedule.end: 0.5 …hold (0.6)…raise end…lower hold",
        ),
        ("schedule:\n  shape: liner", "run.yaml:6: schedule.shape: 'liner'…`linear`"),
        (
            "schedule:\n  shape: linear\n  power: 2",
            "run.yaml:7: schedule.power: …linear…remove…shape: polynomial",
        ),
        ("schedule: linear", "run.yaml:5: schedule: …mapping…'linear'"),
        ("schedule: {shape: linear, initail: 0.5}", "run.yaml:5: schedule.initail: …`initial`"),
        (
            "schedule:\n  shape: linear\n  initial: '0.5'",
            "run.yaml:7: schedule.initial: …number…'0.5' (text)…0 to 1",
        ),
        (
            "training:\n  steps: 999999999999999999",
            "run.yaml:6: training.steps: 999999999999999999 …over 10000000…1 to 10000000",
        ),
        (
            "schedule: {initial: 0.5}",
            "run.yaml:5: schedule.shape: …missing…constant, linear, …knots, apart",
        ),
        ("language: se", "run.yaml:5: language: …'se'…from: es"),
        ("space: {}", "run.yaml:5: space: …search…`raystt search`"),
        (
            "storage: s3://bucket/runs?region=eu",
            "run.yaml:5: storage: 's3://bucket/runs?region=eu' …s3://bucket/runs…AWS_ENDPOINT_URL",
        ),
        (
            "resources: {gpus_per_worker: 1.5}",
            "run.yaml:5: resources.gpus_per_worker: 1.5 …share up to 1…whole number",
        ),
        ("name: second", "run.yaml:5: name: …twice…line 1…remove one"),
    ],
)
def test_a_mistake_is_told_with_place_and_fix(tmp_path: Path, added: str, told: str) -> None:
    (found,) = problems(tmp_path, MINIMAL + added + "\n")
    assert tells(found, told)


def test_all_problems_are_told_at_once_in_order(tmp_path: Path) -> None:
    text = """\
    nam: x
    corpus:
      languages:
        es: {train: none, dev: 0}
      base: {hidden: 100, heads: 3}
    training:
      steps: -1
    schedule:
      shape: linear
      initial: 2
      hold: -1
    """
    assert places(problems(tmp_path, text)) == [
        ["run.yaml:1", "name"],
        ["run.yaml:1", "nam"],
        ["run.yaml:4", "corpus.languages.es.train"],
        ["run.yaml:4", "corpus.languages.es.dev"],
        ["run.yaml:5", "corpus.base.heads"],
        ["run.yaml:7", "training.steps"],
        ["run.yaml:10", "schedule.initial"],
        ["run.yaml:11", "schedule.hold"],
    ]


def places(lines: list[str]) -> list[list[str]]:
    return [line.split(": ")[:2] for line in lines]


def test_a_wrong_type_hides_no_other_mistake(tmp_path: Path) -> None:
    text = """\
    name: x
    language: se
    corpus:
      seed: one
      languages:
        es: {train: 300}
      alignment: {method: ctc}
    model: {lora: {rank: 8}}
    training: {steps: many, zero_stage: 3}
    """
    assert places(problems(tmp_path, text)) == [
        ["run.yaml:2", "language"],
        ["run.yaml:4", "corpus.seed"],
        ["run.yaml:7", "corpus.alignment.model"],
        ["run.yaml:9", "training.steps"],
        ["run.yaml:9", "training.zero_stage"],
    ]


@pytest.mark.parametrize(
    ("added", "place"),
    [
        # one speaker's own tokenizer: the usual reader would not have it
        ("  reader: manifst\n  tokenizer: llama\n", "corpus.reader"),
        ("  base: {hidden: wide, heads: 7}\n", "corpus.base.hidden"),
        ("training: {steps: [1, 2]}\n", "training.steps"),
        ("schedule: {shape: linaer, power: 2}\n", "schedule.shape"),
        ("schedule: {shape: linear, initial: 7, final: 0.95}\n", "schedule.initial"),
    ],
)
def test_what_follows_from_a_mistake_is_not_told(tmp_path: Path, added: str, place: str) -> None:
    (found,) = problems(tmp_path, MINIMAL + added)
    assert found.split(": ")[1] == place


def test_several_languages_need_a_choice(tmp_path: Path) -> None:
    text = "name: x\ncorpus: {languages: {es: {train: 5}, fr: {train: 5}}}\n"
    (found,) = problems(tmp_path, text)
    assert tells(found, "run.yaml:1: language: …several…`language:`…es, fr")
    assert load_run(written(tmp_path, text + "language: fr\n")).language == "fr"


@pytest.mark.parametrize("name", ["..", "../es", "e", "es_MX", "es/mx", "español", "pt-", "''"])
def test_a_language_is_a_code(tmp_path: Path, name: str) -> None:
    (found,) = problems(tmp_path, f"name: x\ncorpus:\n  languages:\n    {name}: {{train: 5}}\n")
    place, key, reason = found.split(": ", 2)
    assert (place, key) == ("run.yaml:4", f"corpus.languages.{name.strip(chr(39))}")
    assert "no code of a language" in reason and "pt-BR" in reason
    (found,) = problems(tmp_path, MINIMAL + f"  target: {name}\n")
    assert found.split(": ")[1] == "corpus.target"


@pytest.mark.parametrize("name", ["es", "pt-BR", "zh-Hant-TW", "fil", "sr-Latn", "ca-1996"])
def test_codes_of_languages_are_taken(tmp_path: Path, name: str) -> None:
    run = load_run(written(tmp_path, f"name: x\ncorpus: {{languages: {{{name}: {{train: 5}}}}}}\n"))
    assert run.language == name


@pytest.mark.parametrize(
    "path", ["s3://bucket/c", "gs://bucket/c", "hdfs://name:9000/c", "file:///c"]
)
def test_a_corpus_may_lie_in_a_store(tmp_path: Path, path: str) -> None:
    assert load_run(written(tmp_path, MINIMAL + f"  path: {path}\n")).corpus.path == path
    (found,) = problems(tmp_path, MINIMAL + "  path: s3://bucket/../c\n")
    assert found.split(": ")[:2] == ["run.yaml:5", "corpus.path"]


@pytest.mark.parametrize("name", ["", "..", "a/b", "a b"])
def test_a_name_is_a_directory(name: str) -> None:
    with pytest.raises(ValidationError, match="cannot name a directory"):
        RunConfig.model_validate({"name": name, "corpus": {"languages": {"es": {"train": 1}}}})


def test_configs_are_frozen(tmp_path: Path) -> None:
    run = load_run(written(tmp_path, MINIMAL))
    with pytest.raises(ValidationError, match="frozen"):
        run.training.steps = 3  # type: ignore[misc]


def test_the_fingerprint_is_of_what_decides_the_result(tmp_path: Path) -> None:
    run = load_run(written(tmp_path, MINIMAL))
    data = run.model_dump(mode="python")

    def changed(*keys: str, value: Any) -> str:
        new = copy.deepcopy(data)
        part = new
        for key in keys[:-1]:
            part = part[key]
        part[keys[-1]] = value
        return RunConfig.model_validate(new).fingerprint()

    assert len(run.fingerprint()) == 16
    same = [
        changed("name", value="other"),
        changed("storage", value="elsewhere"),
        changed("resources", "trainers", value=7),
        changed("training", "log_every", value=7),
        changed("schedule", "initial", value=0.9),
    ]
    assert set(same) == {run.fingerprint()}
    different = [
        changed("seed", value=2),
        changed("schedule", "initial", value=0.8),
        changed("training", "steps", value=351),
        changed("corpus", "languages", "es", "train", value=301),
    ]
    assert len({run.fingerprint(), *different}) == 5


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f:1: expected a mapping of keys to values, found an empty file"),
        ("- 1", "f:1: expected a mapping of keys to values, found a list"),
        ("just words", "f:1: expected a mapping of keys to values, found a plain value"),
        ("a: [1\nb: 2", "f:2: not valid YAML"),
        ("a: 1\n  b: 2", "f:2: not valid YAML"),
        ("a: {b: 1, b: 2}", "f:1: a.b: the key stands twice, first on line 1"),
        ("a: 1\nb:\n  <<: {c: 1}", "f:3: b.<<: merge keys are not read"),
        ("a: &x [*x]", "f:1: a[0]: an alias that contains itself"),
        ("a: !!python/name:os.system", "f:1: a: the tag tag:yaml.org,2002:python/name:os.system"),
        ("a: !!int x", "f:1: a: 'x' is not a int"),
        ("? [1, 2]\n: 3", "f:1: a key that is not a word"),
        ("a: 1\n---\nb: 2", "f:2: not valid YAML"),
        ("a: \x07", "f:1: not valid YAML"),
    ],
)
def test_bad_yaml_is_told_with_its_line(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(text, "f")
    assert str(caught.value).startswith(message)
    assert "; " in str(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing.yaml:1: there is no such file; check the path"):
        load_run(tmp_path / "nothing.yaml")


def test_scalars_follow_yaml_1_2() -> None:
    text = "a: 2e-3\nb: [no, on, yes, off, true]\nc: 010\nd: 1:30\ne: 2026-01-01\nf:\ng: '1'\nno: 1"
    assert parse(text).data == {
        "a": 0.002, "b": ["no", "on", "yes", "off", True], "c": 10, "d": "1:30",
        "e": "2026-01-01", "f": None, "g": "1", "no": 1,
    }  # fmt: skip


def test_dump_is_read_back() -> None:
    data = {"a": [1, 2.0, 1e-9, True, None, "1e3", "no", "null", "", "ü: #"], "b": {"c": {}}}
    assert parse(dump(data)).data == data


def test_every_key_and_item_has_its_line() -> None:
    source = parse("a:\n  - x\n  - {b: 1,\n     c: 2}\n")
    assert source.lines == {("a",): 1, ("a", 0): 2, ("a", 1): 3, ("a", 1, "b"): 3, ("a", 1, "c"): 4}
    assert source.line(("a", 1, "d", "e")) == 3
    assert dotted(("a", 1, "c")) == "a[1].c"


def test_an_error_survives_a_process_border() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("a: 1\na: 2", "f")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
