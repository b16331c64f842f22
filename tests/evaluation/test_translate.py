"""Translate one recording with an untrained model: what goes in, and what comes out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from huggingface_hub import ModelCard
from tiny import SOURCE_UNITS, heard_corpus, tiny_run
from transformers import AutoModelForCausalLM

from raystt import runs
from raystt.config import to_yaml
from raystt.corpus.card import Card
from raystt.errors import BadInput
from raystt.evaluation import translate as translating
from raystt.evaluation.generate import Generated
from raystt.evaluation.translate import OutputError, Translation, check_output, translate_recording
from raystt.speech.audio import AudioError
from raystt.speech.encoders import encoder
from raystt.speech.units import Codebook
from raystt.vocoder.loading import load_vocoder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    path = tmp_path_factory.mktemp("corpus")
    heard_corpus(path)
    rng = np.random.default_rng(0)
    noise = 0.1 * rng.standard_normal(960 * 24).astype(np.float32)
    (frames,) = encoder("mfcc", None).features([noise])
    centroids = rng.standard_normal((SOURCE_UNITS, frames.shape[1])).astype(np.float32)
    one = np.ones(frames.shape[1], np.float32)
    (path / "units").mkdir(exist_ok=True)
    source = path / Card.load(path).units.source.path
    Codebook(frames.mean(axis=0), one, centroids, "mfcc").save(source)
    return path


def translate(corpus: Path, audio: Path) -> Translation:
    return translate_recording(tiny_run(corpus, steps=1), corpus / "base", audio)


@pytest.mark.slow
@pytest.mark.parametrize(("rate", "channels", "name"), [(8000, 1, "a.wav"), (44100, 2, "b.ogg")])
def test_any_rate_and_format(
    corpus: Path, tmp_path: Path, rate: int, channels: int, name: str
) -> None:
    noise = 0.1 * np.random.default_rng(1).standard_normal((rate, channels))
    soundfile.write(tmp_path / name, noise, rate)
    done = translate(corpus, tmp_path / name)
    assert done.source_text is None and done.target_text is None
    assert done.waveform.dtype == np.float32 and done.rate == 16000
    for ending in ("wav", "mp3"):
        done.save(tmp_path / f"out.{ending}")
        found = soundfile.info(tmp_path / f"out.{ending}")
        assert found.samplerate == done.rate
        assert found.duration == pytest.approx(max(0.1, done.seconds), abs=0.1)


def test_what_is_spoken_are_the_units_of_the_target(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, asked = Card.load(corpus), []

    def answer(rows, job, card, *, device):
        asked.extend(rows["source_units"].to_pylist())
        low = card.tokenizer.unit_offset + card.units.target.offset
        return [Generated(np.array([0, low + 1, low + 2, low - 1]), None, None, False)]

    monkeypatch.setattr(translating, "generate", answer)
    soundfile.write(tmp_path / "in.wav", 0.1 * np.sin(np.arange(16000) / 9), 16000)
    done = translate(corpus, tmp_path / "in.wav")
    vocoder = load_vocoder(card.vocoder.name, corpus / card.vocoder.path, device="cpu")
    (spoken,) = vocoder.synthesize([np.array([1, 2])])
    assert done.truncated and np.array_equal(done.waveform, spoken)
    assert len(asked[0]) > 0 and max(asked[0]) < SOURCE_UNITS
    assert card.units.deduplicated
    assert all(a != b for a, b in zip(asked[0], asked[0][1:], strict=False))


def test_what_cannot_be_translated_is_refused(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no audio")
    for name in ("text.wav", "absent.wav"):
        with pytest.raises(AudioError, match=name):
            translate(corpus, tmp_path / name)
    for place, part in (("out.xyz", ".wav, .flac"), ("absent/out.wav", "there is no directory")):
        with pytest.raises(OutputError, match=part):
            check_output(tmp_path / place)


def test_a_search_needs_the_language_that_is_spoken(tmp_path: Path) -> None:
    (tmp_path / "journal.log").touch()
    with pytest.raises(runs.RunInTheWay, match="none is finished"):
        runs.translate(tmp_path, tmp_path / "in.wav")
    for name in ("es", "fr"):
        (tmp_path / "best" / name).mkdir(parents=True)
    for language, part in ((None, "no language was named"), ("de", "no best of 'de'")):
        with pytest.raises(runs.RunInTheWay, match=f"{part}.*es, fr"):
            runs.translate(tmp_path, tmp_path / "in.wav", language=language)


@pytest.mark.slow
@pytest.mark.parametrize("format_", ["direct", "chain_of_thought"])
def test_an_exported_model_translates_wherever_it_lies(
    corpus: Path, tmp_path: Path, format_: str
) -> None:
    run = tiny_run(corpus, steps=1)
    interleaving = run.interleaving.model_copy(update={"format": format_})
    resources = run.resources.model_copy(update={"gpus_per_evaluator": 0.5})
    run = run.model_copy(update={"interleaving": interleaving, "resources": resources})
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "config.yaml").write_text(to_yaml(run))
    (folder / "model").symlink_to(corpus / "base")
    soundfile.write(tmp_path / "in.wav", 0.1 * np.sin(np.arange(16000) / 9), 16000)
    before = runs.translate(folder, tmp_path / "in.wav")

    out = runs.export(folder, tmp_path / "exported")
    with pytest.raises(BadInput, match="exported: is there already"):
        runs.export(folder, out)
    moved = tmp_path / "moved"
    out.rename(moved)
    after = runs.translate(moved, tmp_path / "in.wav")
    assert np.array_equal(before.waveform, after.waveform)
    assert (before.heard, before.target_text) == (after.heard, after.target_text)
    assert (after.target_text is not None) == (format_ == "chain_of_thought")
    assert AutoModelForCausalLM.from_pretrained(moved).num_parameters() > 1000
    card = ModelCard.load(moved / "README.md")
    assert card.data.language == ["es", "en"] and card.data.library_name == "transformers"
    assert "Schedule of the text ratio" in card.text and "raystt translate" in card.text
    for path in (moved / "config.yaml", moved / "speech" / "card.json", moved / "README.md"):
        assert str(tmp_path.parent) not in path.read_text() and str(corpus) not in path.read_text()
    assert not list((moved / "speech").glob("shards"))
    for refused in (lambda: runs.export(moved, out), lambda: runs.evaluate(moved)):
        with pytest.raises(runs.RunInTheWay, match="moved: an exported model translates, and that"):
            refused()


def test_a_model_of_this_machine_is_not_exported(corpus: Path, tmp_path: Path) -> None:
    run = tiny_run(corpus, steps=1)
    own = run.evaluation.model_copy(update={"asr": "whisper", "asr_model": str(tmp_path)})
    (tmp_path / "config.yaml").write_text(to_yaml(run.model_copy(update={"evaluation": own})))
    (tmp_path / "model").symlink_to(corpus / "base")
    with pytest.raises(BadInput, match=r"evaluation.asr_model: .* is a directory of this machine"):
        runs.export(tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_card_keeps_its_facts_and_not_its_use(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(to_yaml(tiny_run(corpus, steps=1)))
    (tmp_path / "model").symlink_to(corpus / "base")
    (tmp_path / "README.md").write_text("# Mine\n\n- a fact\n\n## Use\n\n`raystt evaluate .`\n")
    text = (runs.export(tmp_path, tmp_path / "out") / "README.md").read_text()
    assert "- a fact" in text and "raystt evaluate ." not in text and text.count("## Use") == 1
