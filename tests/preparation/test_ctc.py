"""CTC: labels, batches that no number of workers changes, and what fits."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given
from hypothesis import strategies as st

from raystt.errors import BadInput
from raystt.preparation import ctc
from raystt.readers.grammar import pairs
from raystt.speech.audio import write_flac
from raystt.speech.emission import Alphabet
from raystt.speech.spelling import spelling
from raystt.speech.tts import EspeakSynthesizer, Voice


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> list[ctc.Recording]:
    voice, folder = EspeakSynthesizer(Voice("en-us", "f2")), tmp_path_factory.mktemp("audio")
    found = []
    for i, pair in enumerate(pairs("es", "train", 6, seed=1)):
        waveform = voice.speak(pair.target).waveform
        write_flac(folder / f"{i}.flac", waveform)
        found.append(ctc.Recording(str(folder / f"{i}.flac"), pair.target, len(waveform) / 16000))
    return found


CONVOLUTIONS = {
    "conv_dim": (16,) * 7,
    "feat_extract_norm": "layer",
    "conv_bias": True,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 4,
}
SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
    "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0,
    "final_dropout": 0.0,
}
ARCHITECTURES: dict[str, Callable[[], hf.PreTrainedModel]] = {
    "wav2vec2": lambda: hf.Wav2Vec2Model(hf.Wav2Vec2Config(**SIZES, **CONVOLUTIONS)),
    "hubert": lambda: hf.HubertModel(hf.HubertConfig(**SIZES, **CONVOLUTIONS)),
    "hubert, group norm": lambda: hf.HubertModel(
        hf.HubertConfig(**SIZES, **CONVOLUTIONS | {"feat_extract_norm": "group"})
    ),
    "wavlm": lambda: hf.WavLMModel(hf.WavLMConfig(**SIZES, **CONVOLUTIONS)),
    "wav2vec2-bert": lambda: hf.Wav2Vec2BertModel(
        hf.Wav2Vec2BertConfig(
            **SIZES,
            conformer_conv_dropout=0.0,
            conv_depthwise_kernel_size=15,
            output_hidden_size=64,
        )
    ),
}


def saved_encoder(kind: str, folder: Path) -> str:
    """Write an untrained encoder without a head in the hub's layout."""
    torch.manual_seed(1)
    model = ARCHITECTURES[kind]()
    model.save_pretrained(folder)
    masked = getattr(model.config, "feat_extract_norm", "layer") == "layer"
    extractor = (
        hf.SeamlessM4TFeatureExtractor()
        if kind == "wav2vec2-bert"
        else hf.Wav2Vec2FeatureExtractor(return_attention_mask=masked)
    )
    extractor.save_pretrained(folder)
    return str(folder)


def load(kind: str, folder: Path, texts: list[str]) -> tuple[Any, Any]:
    torch.manual_seed(1)
    return ctc.load(saved_encoder(kind, folder), texts)


def test_the_vocabulary_does_not_depend_on_the_order_of_texts(tmp_path: Path) -> None:
    texts = ["no más", "One two", "ça va"]
    numbers = ctc.vocabulary(texts)
    assert numbers == ctc.vocabulary(reversed(texts))
    assert list(numbers)[:3] == ["<pad>", "<unk>", "|"] and list(numbers.values())[0] == 0
    assert list(numbers)[3:] == sorted("aemnostwváç")

    _, processor = load("wav2vec2", tmp_path / "a", texts)
    processor.save_pretrained(tmp_path / "b")
    again = hf.AutoProcessor.from_pretrained(tmp_path / "b")
    assert isinstance(again, hf.Wav2Vec2Processor)
    assert len(again.tokenizer) == len(processor.tokenizer) == len(numbers)
    assert again.tokenizer("one más").input_ids == [numbers[c] for c in "one|más"]
    assert again.tokenizer("x").input_ids == [numbers["<unk>"]]


def test_alignment_asks_for_the_labels_that_were_taught(tmp_path: Path) -> None:
    text = "A well-known rock’n’roll band: 3 'stars', 10% Señor İ -- ’"
    _, processor = load("wav2vec2", tmp_path, [text])
    taught = processor.tokenizer(spelling(text)).input_ids
    numbers = ctc.vocabulary([text])
    delimiter = numbers.pop("|")
    asked: list[int] = []
    for word in text.split():
        labels = Alphabet(numbers, numbers["<pad>"], delimiter, "en").spell(word)
        asked += [delimiter, *labels] if asked and labels else labels
    assert asked == taught
    assert 1 + taught.count(delimiter) == 9  # not the dash, nor the lone apostrophe


@given(
    st.lists(st.floats(0.2, 30), min_size=1, max_size=1200), st.floats(5, 200), st.integers(0, 5)
)
def test_an_epoch_holds_each_utterance_once(lengths: list[float], most: float, seed: int) -> None:
    seconds = np.array(lengths)
    endless, seen = ctc.batches(seconds, most, seed), []
    while len(seen) < 2 * len(seconds):
        batch = next(endless)
        assert len(batch) == 1 or len(batch) * seconds[batch].max() <= most
        seen += batch.tolist()
    every = list(range(len(seconds)))
    assert sorted(seen[: len(every)]) == sorted(seen[len(every) :]) == every


def test_the_order_is_that_of_the_seed() -> None:
    seconds = np.linspace(1, 9, 40)
    one, again, other = (
        [batch.tolist() for batch in islice(ctc.batches(seconds, 30, seed), 25)]
        for seed in (7, 7, 8)
    )
    assert one == again != other


@pytest.mark.slow
@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_parts_add_up_to_the_gradient_of_the_batch(
    kind: str, tmp_path: Path, spoken: list[ctc.Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = load(kind, tmp_path, [recording.text for recording in spoken])
    # Nothing is learnt of the convolutions of a pretrained model.
    frozen = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert bool(frozen) == (kind != "wav2vec2-bert")

    def gradients(workers: int, seconds: float) -> tuple[int, float, dict[str, torch.Tensor]]:
        monkeypatch.setattr(ctc, "MICRO_BATCH_SECONDS", seconds)
        model.zero_grad()
        total, count = 0.0, 0
        for rank in range(workers):
            parts = ctc.Parts(
                spoken[:3], processor, batch_seconds=60.0, steps=1, seed=1, rank=rank,
                world_size=workers,
            )  # fmt: skip
            for part in (parts[index] for index in range(len(parts))):
                count += 1
                share = part.pop("share") / (workers * len(parts))
                loss = model(**part).loss * share
                loss.backward()
                total += loss.item()
        return count, total, {n: p.grad for n, p in model.named_parameters() if p.grad is not None}

    _, loss, alone = gradients(1, 60.0)
    largest = max(float(g.abs().max()) for g in alone.values())
    # At four parts, one has no utterance.
    for workers, seconds, parts in ((2, 60.0, 2), (1, 30.0, 2), (2, 15.0, 4)):
        count, shared_loss, shared = gradients(workers, seconds)
        assert count == parts
        assert shared_loss == pytest.approx(loss, rel=1e-4)
        for name, gradient in alone.items():
            assert torch.allclose(shared[name], gradient, rtol=1e-3, atol=1e-4 * largest), name


def test_damaged_recordings_count_for_nothing(tmp_path: Path, spoken: list[ctc.Recording]) -> None:
    model, processor = load("wav2vec2", tmp_path / "model", [spoken[0].text])
    damaged = spoken[0]._replace(path=str(tmp_path / "none.flac"))

    def part(recordings: list[ctc.Recording]) -> dict[str, Any]:
        return ctc.Parts(
            recordings, processor, batch_seconds=60, steps=1, seed=1, rank=0, world_size=1
        )[0]

    assert part([damaged, spoken[0]])["share"] == 0.5
    nothing = part([damaged, damaged])
    assert nothing.pop("share") == 0 and torch.isfinite(model(**nothing).loss)
    assert ctc.error_rate(model, processor, [damaged]) == 0


def test_the_error_rate_is_that_of_all_characters(
    tmp_path: Path, spoken: list[ctc.Recording]
) -> None:
    model, processor = load("wav2vec2-bert", tmp_path, ["ab"])
    with torch.no_grad():
        model.lm_head.bias[processor.tokenizer.vocab["a"]] = 1e3  # it always hears an "a"
    heard = [spoken[0]._replace(text="a"), spoken[1]._replace(text="Ab, bb!")]
    assert ctc.error_rate(model, processor, heard) == pytest.approx((0 + 4) / (1 + 5))


def test_what_cannot_be_spelled_in_its_time_does_not_fit(tmp_path: Path) -> None:
    model, processor = load("wav2vec2", tmp_path, ["one two a"])
    assert ctc.fits(model, processor, "one two", 1.0)
    assert not ctc.fits(model, processor, "...", 1.0)
    assert ctc.fits(model, processor, "a" * 10, 0.5)
    assert not ctc.fits(model, processor, "a" * 13, 0.5)
    # The loss of the shortest that fits is finite.
    waveform = np.random.default_rng(1).standard_normal(int(0.2 * 16000), dtype=np.float32)
    write_flac(tmp_path / "short.flac", waveform)
    assert ctc.fits(model, processor, "a", 0.2)
    short = [ctc.Recording(str(tmp_path / "short.flac"), "a", 0.2)]
    part = ctc.Parts(short, processor, batch_seconds=9, steps=1, seed=1, rank=0, world_size=1)[0]
    del part["share"]
    assert torch.isfinite(model(**part).loss)


def test_a_model_that_is_no_speech_encoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere"):
        ctc.load(str(tmp_path / "nowhere"), ["a"])
