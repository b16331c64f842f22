"""The judge of a tiny corpus: an untrained model, a hardly trained vocoder, a real recogniser."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import sacrebleu
import soundfile
import torch
from tiny import SOURCE_UNITS, TEXT, heard_corpus

from raystt.config import EvaluationConfig
from raystt.corpus.card import Card
from raystt.corpus.rows import of_side
from raystt.corpus.shards import read_rows
from raystt.evaluation import judge as judging
from raystt.evaluation.ceiling import measure_ceiling
from raystt.evaluation.clips import clip, heard, keep_recordings, read_recordings
from raystt.evaluation.generate import Generated
from raystt.evaluation.jobs import (
    CeilingJob,
    Evaluation,
    EvaluationJob,
    Sentence,
    hypotheses_of,
    read_statistics,
)
from raystt.evaluation.judge import Judge
from raystt.interleaving.rules import Interleaving
from raystt.readers.utterance import audio_path
from raystt.speech.audio import write_flac
from raystt.speech.tts import EspeakSynthesizer, Voice


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("corpus")
    heard_corpus(path)
    return path


@pytest.fixture(scope="module")
def judge(corpus: Path) -> Judge:
    return Judge(corpus, EvaluationConfig(), device="cpu")


@pytest.mark.gpu
def test_what_is_asked_to_run_on_the_cpu_does(corpus: Path) -> None:
    torch.cuda.reset_peak_memory_stats()
    Judge(corpus, EvaluationConfig(), device="cpu").evaluate(job(corpus, "direct"))
    assert torch.cuda.max_memory_allocated() == 0


def job(corpus: Path, form: str) -> EvaluationJob:
    return EvaluationJob(
        model=str(corpus / "base"),
        language="es",
        split="dev",
        config=EvaluationConfig(max_new_tokens=12, resamples=100),
        interleaving=Interleaving(format=form),
    )


def test_direct(judge: Judge, corpus: Path, tmp_path: Path) -> None:
    evaluation = judge.evaluate(job(corpus, "direct"))
    assert [s.id for s in evaluation.sentences] == [f"dev-0-{i}" for i in range(4)]
    assert all(set(s.reference.split()) == {"word"} for s in evaluation.sentences)
    assert {s.generated_target for s in evaluation.sentences} == {None}
    assert all(s.units + s.stray_tokens <= 12 for s in evaluation.sentences)
    assert not evaluation.texts
    assert list(evaluation.metrics()) == ["chrf"]
    assert evaluation.signature == judge.signature
    assert judge.sign("none").endswith("|vocoder:none|norm:plain")
    evaluation.write(tmp_path)
    path = hypotheses_of(tmp_path, "dev")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["id"] for line in lines] == [s.id for s in evaluation.sentences]
    for name, known in (("asr_bleu", evaluation.statistics), ("chrf", evaluation.chrf)):
        assert np.array_equal(read_statistics(path, name), known)


def test_each_clip_is_the_sentence_that_it_is_numbered_for(
    judge: Judge, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = judge.card.tokenizer.unit_offset + judge.card.units.target.offset
    says = [np.arange(count) % 8 + first for count in (6, 0, 30, 12)]
    monkeypatch.setattr(
        "raystt.evaluation.judge.generate",
        lambda *_, **__: [Generated(spoken, None, None) for spoken in says],
    )
    evaluation = judge.evaluate(job(corpus, "direct"))
    evaluation.write(tmp_path)
    sentences = evaluation.sentences
    assert [s.units for s in sentences] == [6, 0, 30, 12]
    assert [s.seconds > 0 for s in sentences] == [True, False, True, True]
    for number, place in enumerate(heard([s.id for s in sentences])):
        found, seconds = clip(tmp_path / "clips-dev", number), sentences[place].seconds
        assert found.exists() == (seconds > 0)
        if found.exists():
            assert soundfile.info(found).duration == pytest.approx(seconds, abs=0.1)


def test_recordings_are_kept_once_and_without_those_that_are_lost(
    judge: Judge, corpus: Path, tmp_path: Path
) -> None:
    tiny_ceiling_audio(corpus)
    keep_recordings(corpus, judge.card, "es", "dev", tmp_path / "kept")
    kept = read_recordings(tmp_path / "kept")
    assert len(kept) == 4 and set(kept[0]) == {"id", "source", "target"}
    assert heard([str(one["id"]) for one in kept]) == [0, 1, 2, 3]
    said = soundfile.info(clip(tmp_path / "kept", 0, "target"))
    assert said.samplerate == judge.card.sample_rate and said.duration > 0.2
    assert not clip(tmp_path / "kept", 0, "source").exists()
    shutil.rmtree(corpus / "audio")
    keep_recordings(corpus, judge.card, "es", "dev", tmp_path / "kept")
    assert read_recordings(tmp_path / "kept") == kept
    assert read_recordings(tmp_path / "nothing") == []


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let the model write what the test says: no tiny model writes sentences."""

    def fix(outputs: list[Generated]) -> None:
        monkeypatch.setattr(judging, "generate", lambda rows, job, card, device, on_batch: outputs)

    return fix


def test_the_texts_of_a_chain_of_thought_are_scored(
    judge: Judge, corpus: Path, written: Callable[..., None]
) -> None:
    source_unit, unit = TEXT + 1, TEXT + SOURCE_UNITS
    texts = [[10, 11, 12], [10], [], [13, unit, 14]]  # a unit strayed into the last
    written(
        [
            Generated(np.array([unit, unit + 1, source_unit, 9]), np.array([8]), np.array(t, int))
            for t in texts
        ]
    )
    evaluation = judge.evaluate(job(corpus, "chain_of_thought"))
    targets = [s.generated_target for s in evaluation.sentences]
    assert targets == ["word10 word11 word12", "word10", "", "word13 word14"]
    assert {s.generated_source for s in evaluation.sentences} == {"word8"}
    assert {(s.units, s.stray_tokens) for s in evaluation.sentences} == {(2, 2)}
    metrics = evaluation.metrics()
    assert list(metrics) == ["chrf", "text_bleu", "source_text_bleu"]
    references = [s.reference for s in evaluation.sentences]
    assert metrics["text_bleu"] == sacrebleu.corpus_bleu(targets, [references]).score
    assert evaluation.signatures["text_bleu"].startswith("nrefs:1|case:mixed|")
    assert "|asr:pocketsphinx" in evaluation.signatures["chrf"]


def test_a_format_without_an_answer(
    judge: Judge, corpus: Path, written: Callable[..., None]
) -> None:
    """Nothing said is an empty hypothesis, not an error."""
    nothing = np.zeros(0, np.int64)
    written([Generated(nothing, None, None)] * 4)
    evaluation = judge.evaluate(job(corpus, "direct"))
    assert [s.hypothesis for s in evaluation.sentences] == [""] * 4
    assert evaluation.score(EvaluationConfig(resamples=100)).asr_bleu == 0.0
    assert evaluation.metrics() == {"chrf": 0.0}


def test_naturalness_is_the_mean_of_what_was_said() -> None:
    sentence = Sentence("a", "a", "a", None, None, 1, 0, 1.0, None)
    evaluation = Evaluation(
        language="es", split="dev",
        sentences=(replace(sentence, utmos=3.0), sentence,
                   replace(sentence, utmos=4.0, truncated=True)),
        statistics=np.zeros((3, 10), np.int64), chrf=np.zeros((3, 18), np.int64), texts={},
        signature="s", signatures={"chrf": "c", "utmos": "u"}, seconds=1.0,
    )  # fmt: skip
    assert evaluation.metrics()["utmos"] == 3.5
    assert evaluation.truncated == pytest.approx(1 / 3)


@pytest.mark.slow
def test_the_ceiling_is_measured_once(judge: Judge, corpus: Path) -> None:
    heard = tiny_ceiling_audio(corpus)
    asked = CeilingJob("es", "dev", EvaluationConfig(resamples=100))
    ceiling = measure_ceiling(judge, asked)
    assert ceiling.audio.asr_bleu > 50, heard
    assert ceiling.audio.sentences == ceiling.resynthesis.sentences == 4
    assert ceiling.audio.signature == judge.sign("none")
    assert ceiling.resynthesis.signature == judge.signature
    # Kept: it needs the recordings no more.
    for path in (corpus / "audio").rglob("*.flac"):
        path.unlink()
    assert measure_ceiling(judge, asked) == ceiling
    fewer = CeilingJob("es", "dev", EvaluationConfig(resamples=100, sentences=2))
    with pytest.raises(FileNotFoundError, match="reference audio is missing"):
        measure_ceiling(judge, fewer)


def tiny_ceiling_audio(corpus: Path) -> list[str]:
    """Speak the references of dev, each as often as it says "word"."""
    pytest.importorskip("espeakng_loader")
    voice = EspeakSynthesizer(Voice("en-us", "f2"))
    table = read_rows(corpus, Card.load(corpus), "es", "dev")
    texts = of_side(table, "target")["text"].to_pylist()
    for name, text in zip(table["id"].to_pylist(), texts, strict=True):
        path = audio_path(corpus, "es", "dev", name, "target")
        write_flac(path, voice.speak(text).waveform)
    return texts
