"""`check`: everything a config needs, looked at without Ray, torch or a cluster."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from raystt.checking import CheckReport, check
from raystt.config import ConfigError, load_run
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
from raystt.corpus.shards import Row, RowSide, split_directory, write_shard

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
    monkeypatch.delenv("RAY_ADDRESS", raising=False)


def written(text: str, *changes: tuple[str, str]) -> str:
    text = text.format(corpus="corpus")
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    Path("c.yaml").write_text(text, encoding="utf-8")
    return "c.yaml"


def problems(text: str, *changes: tuple[str, str]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        check(written(text, *changes))
    return str(caught.value).splitlines()


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
    assert isinstance(report, CheckReport)
    assert (report.kind, report.name, report.trials, report.steps) == ("search", "s", 12, 10)
    assert [(one.language, one.pairs, one.epochs) for one in report.languages] == [
        ("es", 20, 2.0), ("fr", 30, pytest.approx(4 / 3))
    ]  # fmt: skip
    assert report.ratios["none"] == (0.0,) * 11
    assert report.ratios["constant"] == (0.3,) * 11
    assert report.ratios["paper"][0] == 0.9
    assert report.ratios["paper"][8:] == (0.0, 0.0, 0.0)
    assert report.warnings == ()
    assert report.notes == (
        "the corpus in corpus is not prepared yet; run `raystt prepare c.yaml`",
    )
    text = report.render()
    for part in ("trials   12", "10 steps of 4", "paper", "staircase 0.9→0 by 0.8", "note: "):
        assert part in text
    assert max(map(len, text.splitlines())) < 130
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
            "c.yaml:6: training.stepps: unknown key; did you mean `steps`?",
        ),
        (
            ("steps: 10", "steps: ten"),
            "c.yaml:6: training.steps: expected a whole number, found 'ten' (text); "
            "give a whole number from 1 to 10000000, such as 350",
        ),
        (
            ("training:", "schedule: {shape: linear, initial: 1.5}\ntraining:"),
            "c.yaml:6: schedule.initial: 1.5 is over 1; give a number from 0 to 1",
        ),
        (
            ("training:", "schedule: {shape: linear, hold: 0.5, end: 0.4}\ntraining:"),
            "c.yaml:6: schedule.end: 0.4 is not after hold (0.5); "
            "raise end (at most 1) or lower hold",
        ),
        (
            ("training:", "schedule: {shape: cosinus}\ntraining:"),
            "c.yaml:6: schedule.shape: 'cosinus' is not a known shape; did you mean `cosine`?",
        ),
        (
            ("cpus: 2", "cpus: 2, data_cpus: 0"),
            "c.yaml:7: resources.data_cpus: zero CPUs left for data: reading the shards would "
            "wait for ever; give a share, such as 0.5",
        ),
        (
            ("cpus: 2", "cpus: 2, cpus_per_worker: 1"),
            "c.yaml:7: resources.trainers: zero CPUs left for data: 2 trainers x 1 workers x "
            "1 CPUs + 1 evaluators x 0.25 CPUs take 2.25 of 2 CPUs; lower resources.trainers or "
            "resources.cpus_per_worker, or raise resources.cpus",
        ),
        (
            ("cpus: 2", "cpus: 2, data_cpus: 1"),
            "c.yaml:7: resources.data_cpus: 1 CPUs for data do not fit: 2 trainers x 1 workers x "
            "0.5 CPUs + 1 evaluators x 0.25 CPUs take 1.25 of 2 CPUs; give at most 0.75, or lower "
            "resources.trainers or resources.cpus_per_worker, or raise resources.cpus",
        ),
        (
            ("batch_utterances: 4", "batch_utterances: 21"),
            "c.yaml:6: training.batch_utterances: 21 utterances a step, but es has 20 training "
            "pairs; give at most 20, or raise corpus.languages.es.train",
        ),
        (
            ("cpus: 2", "cpus: 9, workers_per_trainer: 5, cpus_per_worker: 0.1"),
            "c.yaml:6: training.batch_utterances: 4 utterances a step cannot be shared by "
            "5 workers; give at least 5, or lower resources.workers_per_trainer",
        ),
        (
            ("    es:", "    xx:"),
            "c.yaml:5: corpus.languages.xx: the embedded corpus has no language 'xx'; "
            "choose from: {languages}",
        ),
        (
            ("    es:", "    en:"),
            "c.yaml:5: corpus.languages.en: 'en' is the target language too; "
            "remove it, or change corpus.target",
        ),
        (
            ("training:", "model: {base: ./llama}\ntraining:"),
            "c.yaml:6: model.base: there is no directory './llama'; "
            "correct the path, or use `corpus`, the text LM of the corpus",
        ),
    ],
)
def test_a_bad_config_is_told_with_place_and_fix(change: tuple[str, str], message: str) -> None:
    from raystt.readers.grammar import LEXICONS

    known = ", ".join(name for name in LEXICONS if name != "en")
    assert problems(RUN, change) == [message.replace("{languages}", known)]


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
    assert "cluster" in check(written(RUN, big)).notes[0]
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert "cluster" in check(written(RUN, ("cpus: 2", "trainers: 64"))).notes[0]


def test_a_missing_shard_is_named() -> None:
    prepare(written(RUN))
    path = Path("corpus/shards/language=es/split=train/part-00000.parquet")
    path.unlink()
    with pytest.raises(ConfigError) as caught:
        check("c.yaml")
    assert str(caught.value) == (
        f"c.yaml:3: corpus.path: the shard {path} (language es, split train) is missing; "
        "run `raystt prepare c.yaml`"
    )


def test_a_damaged_or_short_shard_is_named() -> None:
    prepare(written(RUN))
    dev, test = (
        Path(f"corpus/shards/language=es/split={split}/part-00000.parquet")
        for split in ("dev", "test")
    )
    dev.write_bytes(b"not parquet")
    write_shard([row("a", "es", "test")], test)
    with pytest.raises(ConfigError) as caught:
        check("c.yaml")
    first, second = str(caught.value).splitlines()
    assert first.startswith(f"c.yaml:3: corpus.path: the shard {dev} (language es, split dev) is")
    assert "not readable" in first
    assert second.endswith(
        "split test) has 1 rows, the card says 2; delete it and run `raystt prepare c.yaml`"
    )


def test_other_missing_files_are_named() -> None:
    prepare(written(RUN))
    Path("corpus/base").rmdir()
    with pytest.raises(ConfigError, match="corpus/base, which the card names, is missing; run `"):
        check("c.yaml")


def test_a_corpus_of_another_config_is_refused() -> None:
    prepare(written(RUN))
    assert problems(RUN, ("train: 20", "train: 25")) == [
        "c.yaml:5: corpus.languages.es.train: the corpus in corpus was prepared with 20, here it "
        "is 25; set another corpus.path, or delete corpus to prepare it anew"
    ]


def test_a_damaged_card_is_told() -> None:
    prepare(written(RUN))
    Path("corpus/card.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="c.yaml:3: corpus.path: .*card.json: not valid JSON"):
        check("c.yaml")


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
            ("trials: 6", "trials: 6\nsampler: {startup_trials: 6}"),
            "sampler.startup_trials is 6 of 6 trials",
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
    assert f"warning: {warning}" in report.render()


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


def test_recordings_that_are_elsewhere_are_noted_and_no_error() -> None:
    Path("covost").mkdir()
    report = check(of_cvss())
    assert report.warnings == ()
    assert report.notes[1:3] == (
        "corpus.sources.common_voice: cv/fr is not on this machine",
        "corpus.sources.cvss: cvss is not on this machine",
    )
    assert "model.base 'meta-llama/Llama-3.2-1B', corpus.tokenizer" in report.notes[3]
    assert report.languages[0].pairs is None
    assert report.languages[0].epochs == pytest.approx(40 / 129600)
    assert "guessed from the hours in the paper: fr 129600" in report.notes[-1]
    assert "  fr                all       1" in report.render()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            ("model: {base: meta-llama/Llama-3.2-1B}\n", ""),
            "c.yaml:1: model.base: `corpus` is the text LM of the embedded corpus, `reader: cvss` "
            "has none; name a pretrained one, the one that corpus.tokenizer belongs to",
        ),
        (
            ("asr: whisper, ", ""),
            "c.yaml:12: evaluation.asr: no pocketsphinx is fitted to a corpus of `reader: cvss`; "
            "choose from: whisper, fairseq-wav2vec2",
        ),
        (
            ("tokenizer: meta-llama", "tokenizer: ./meta-llama"),
            "c.yaml:10: corpus.tokenizer: there is no directory './meta-llama/Llama-3.2-1B'; "
            "correct the path",
        ),
    ],
)
def test_what_only_the_embedded_corpus_has_is_refused(
    change: tuple[str, str], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        check(of_cvss(change))
    assert str(caught.value) == message


def test_speech_that_would_be_cut_off_is_warned_of() -> None:
    report = check(of_cvss(("max_new_tokens: 600", "max_new_tokens: 160")))
    (warning,) = report.warnings
    assert warning.startswith("evaluation.max_new_tokens is 160, but an output of fr is 201 tokens")


def test_source_speech_without_text_is_not_interleaved() -> None:
    prepare(written(RUN), transcribed=False)
    assert problems(RUN) == [
        "c.yaml:1: interleaving: interleaving.side: both needs source text, and the corpus has "
        "none; set interleaving.side: target"
    ]
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
    assert list(report.ratios) == ["none", "paper", "constant", "source_only", "words"]
    assert report.ratios["source_only"] == report.ratios["paper"]
    assert report.achieved["words"] == report.ratios["words"]
    assert report.achieved["paper"][7] > report.ratios["paper"][7] + 0.1
    assert report.achieved["none"] == (0.0,) * 11
    text = report.render()
    assert "staircase 0.9→0 by 0.8, step 0.1; also source_only" in text
    assert "achieved" in text and "CPU-hours" in text and "corpus.base" in text
    fixed = check(
        written(
            SEARCH, ABLATED, ("trials: 6", "trials: null"),
            ("space:\n  schedule.initial: {{float: [0.5, 1.0]}}".replace("{{", "{")
             .replace("}}", "}"), "space: {}"),
        )
    )  # fmt: skip
    assert [one.trials for one in fixed.languages] == [4, 5]


def test_it_is_quick_and_starts_nothing() -> None:
    prepare(written(RUN))
    heavy = ["ray", "torch", "transformers", "optuna", "deepspeed", "sklearn"]
    code = f"""
        import sys
        from raystt.checking import check
        print(check("c.yaml").render())
        print(*(name for name in {heavy} if name in sys.modules))
    """
    root = Path(__file__).resolve().parents[1]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == ""
    # of the processor and not by the clock, which also counts what else the machine does
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 4


def test_models_that_do_not_go_together_are_noticed(tmp_path: Path) -> None:
    text = (Path(__file__).parents[1] / "search_spaces" / "paper.yaml").read_text()
    other = tmp_path / "other.yaml"
    other.write_text(
        text.replace("tokenizer: meta-llama/Llama-3.2-1B", "tokenizer: Qwen/Qwen3-1.7B")
    )
    (warning,) = check(other).warnings
    assert "Qwen/Qwen3-1.7B" in warning and "meta-llama/Llama-3.2-1B" in warning
    other.write_text(text.replace("source: 2048", "source: 2048\n      codebook: kmeans.npy"))
    with pytest.raises(ConfigError, match=r"units\.codebook: there is no file 'kmeans\.npy'"):
        check(other)
