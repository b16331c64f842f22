"""CTC fine-tuning: labels, batches that no number of workers changes, and a model that learns."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as hf
from hypothesis import given
from hypothesis import strategies as st

from raystt.config import FinetuneConfig
from raystt.errors import BadInput
from raystt.preparation import ctc
from raystt.preparation.ctc_batches import (
    epoch_batches,
    held_out,
    loaded_ahead,
    share,
    step_batches,
)
from raystt.readers.grammar import pairs
from raystt.speech.tts import EspeakSynthesizer, Voice

Sentences = list[tuple[str, np.ndarray]]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def spoken() -> Sentences:
    voice = EspeakSynthesizer(Voice("en-us", "f2"))
    texts = [pair.target for pair in pairs("es", "train", 6, seed=1)]
    return [(text, voice.speak(text).waveform) for text in texts]


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


def new_trainer(kind: str, folder: Path, spoken: Sentences, **settings) -> ctc.CtcTrainer:
    encoder = saved_encoder(kind, folder)
    processor = ctc.new_processor(encoder, [text for text, _ in spoken])
    torch.manual_seed(1)
    return ctc.CtcTrainer(
        ctc.load_model(encoder, processor),
        processor,
        FinetuneConfig(**{"steps": 100, "learning_rate": 2e-3, "warmup": 0.1} | settings),
        seed=1,
        device=torch.device("cpu"),
    )


def inputs(spoken: Sentences, part: np.ndarray, weight: float) -> tuple:
    longest = max(len(waveform) for _, waveform in spoken)
    chosen = [spoken[index] for index in part]
    return [waveform for _, waveform in chosen], [text for text, _ in chosen], weight, longest


@pytest.mark.parametrize(
    ("text", "spelled"),
    [
        ("Don’t stop — now!", "don't stop now"),
        ("  Señor\tPeña ", "señor peña"),
        ("sen\u0303or", "señor"),
        ("well-known 'quoted' | <pad>", "well known 'quoted' pad"),
        ("... ' ...", ""),
        ("Привет, мир.", "привет мир"),
    ],
)
def test_spelling(text: str, spelled: str) -> None:
    assert ctc.spelling(text) == spelled


def test_the_vocabulary_does_not_depend_on_the_order_of_texts(tmp_path: Path) -> None:
    texts = ["no más", "One two", "ça va"]
    numbers = ctc.vocabulary(texts)
    assert numbers == ctc.vocabulary(reversed(texts))
    assert list(numbers)[:3] == ["<pad>", "<unk>", "|"] and list(numbers.values())[0] == 0
    assert list(numbers)[3:] == sorted("aemnostwváç")

    processor = ctc.new_processor(saved_encoder("wav2vec2", tmp_path / "a"), texts)
    processor.save_pretrained(tmp_path / "b")
    again = hf.AutoProcessor.from_pretrained(tmp_path / "b")
    assert isinstance(again, hf.Wav2Vec2Processor)
    assert len(again.tokenizer) == len(processor.tokenizer) == len(numbers)
    assert again.tokenizer("one más").input_ids == [numbers[c] for c in "one|más"]
    assert again.tokenizer("x").input_ids == [numbers["<unk>"]]


@given(
    st.lists(st.floats(0.2, 30), min_size=1, max_size=1200),
    st.floats(5, 200),
    st.integers(0, 5),
    st.integers(1, 5),
)
def test_an_epoch_holds_each_utterance_once(
    lengths: list[float], most: float, seed: int, workers: int
) -> None:
    seconds = np.array(lengths)
    batches = epoch_batches(seconds, most, seed, 0)
    assert sorted(np.concatenate(batches).tolist()) == list(range(len(seconds)))
    for batch in batches:
        assert len(batch) == 1 or len(batch) * seconds[batch].max() <= most
        parts = [share(batch, rank, workers) for rank in range(workers)]
        assert sorted(np.concatenate([part for part, _ in parts])) == sorted(batch)
        assert sum(weight for _, weight in parts) == pytest.approx(1)


def test_steps_go_on_from_any_step() -> None:
    seconds = np.linspace(1, 9, 40)
    whole = list(step_batches(seconds, 30, 7, 0, 25))
    assert len(whole) == 25
    rest = list(step_batches(seconds, 30, 7, 11, 25))
    assert all(np.array_equal(a, b) for a, b in zip(whole[11:], rest, strict=True))
    other = next(step_batches(seconds, 30, 8, 0, 1))
    assert not np.array_equal(whole[0], other)


def test_held_out_utterances_are_few_and_fixed() -> None:
    held, trained = held_out(1000, 64, 1)
    assert len(held) == 64 and sorted([*held, *trained]) == list(range(1000))
    assert held_out(1000, 64, 1)[0] == held != held_out(1000, 64, 2)[0]
    assert [len(part) for part in held_out(2, 64, 1)] == [1, 1]


def test_loading_ahead_keeps_the_order_and_passes_errors_on() -> None:
    assert list(loaded_ahead(iter(range(20)), str)) == [str(i) for i in range(20)]
    with pytest.raises(ZeroDivisionError):
        list(loaded_ahead(iter([1, 0, 2]), lambda x: 1 / x))


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_two_shares_add_up_to_the_gradient_of_the_batch(
    kind: str, tmp_path: Path, spoken: Sentences
) -> None:
    trainer = new_trainer(kind, tmp_path, spoken)
    # Nothing is learnt of the convolutions of a pretrained model.
    frozen = [name for name, p in trainer.model.named_parameters() if not p.requires_grad]
    assert bool(frozen) == (kind != "wav2vec2-bert")
    batch = np.array([3, 0, 5])

    def gradients(workers: int) -> tuple[float, dict[str, torch.Tensor]]:
        trainer.model.zero_grad()
        parts = [share(batch, rank, workers) for rank in range(workers)]
        loss = sum(float(trainer.accumulate(*inputs(spoken, *part))) for part in parts)
        found = {n: p.grad for n, p in trainer.model.named_parameters() if p.grad is not None}
        return loss, found

    loss, alone = gradients(1)
    # The last of four workers has no utterance.
    for workers in (2, 4):
        shared_loss, shared = gradients(workers)
        assert shared_loss == pytest.approx(loss, rel=1e-4)
        largest = max(float(g.abs().max()) for g in alone.values())
        for name, gradient in alone.items():
            assert torch.allclose(shared[name], gradient, rtol=1e-3, atol=1e-4 * largest), name


def test_a_model_learns_to_spell_a_handful_of_sentences(tmp_path: Path, spoken: Sentences) -> None:
    few = spoken[:2]
    trainer = new_trainer("wav2vec2-bert", tmp_path, few, steps=70, learning_rate=8e-3)
    whole = inputs(few, np.arange(2), 1.0)
    losses = [trainer.step(*whole) for _ in range(70)]
    assert losses[0] > 2.5 and losses[-1] < 0.6
    wrong = np.array([trainer.errors(waveform, text) for text, waveform in few])
    assert wrong[:, 0].sum() < 0.1 * wrong[:, 1].sum()


def test_a_loaded_state_goes_on_as_if_nothing_had_happened(
    tmp_path: Path, spoken: Sentences
) -> None:
    # With dropout: its random numbers are those of the step, not of what came before.
    whole = inputs(spoken, np.arange(3), 1.0)
    first = new_trainer("wav2vec2", tmp_path / "a", spoken)
    first.model.dropout.p = 0.5
    for _ in range(2):
        first.step(*whole)
    torch.save(first.state(), tmp_path / "state.pt")
    straight = [first.step(*whole) for _ in range(2)]
    second = new_trainer("wav2vec2", tmp_path / "b", spoken)
    second.model.dropout.p = 0.5
    second.load(torch.load(tmp_path / "state.pt", weights_only=True))
    torch.rand(3)
    assert [second.step(*whole) for _ in range(2)] == straight
    for name, tensor in first.model.state_dict().items():
        assert torch.equal(second.model.state_dict()[name], tensor), name


def test_what_cannot_be_spelled_in_its_time_does_not_fit(tmp_path: Path, spoken: Sentences) -> None:
    trainer = new_trainer("wav2vec2", tmp_path, spoken)
    assert trainer.fits("one two", 1.0)
    assert not trainer.fits("...", 1.0)
    assert trainer.fits("a" * 10, 0.5) and not trainer.fits("a" * 13, 0.5)
    # The loss of the shortest that fits is finite, also under the model's own masks.
    waveform = np.random.default_rng(1).standard_normal(int(0.2 * 16000), dtype=np.float32)
    assert trainer.fits("a", 0.2)
    assert np.isfinite(trainer.step([waveform], ["a"], 1.0, len(waveform)))


def test_a_model_that_is_no_speech_encoder_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="nowhere"):
        ctc.new_processor(str(tmp_path / "nowhere"), ["a"])


@pytest.mark.parametrize(
    ("one", "other", "distance"),
    [("", "", 0), ("abc", "", 3), ("kitten", "sitting", 3), ("ab", "ba", 2), ("abc", "abc", 0)],
)
def test_edit_distance(one: str, other: str, distance: int) -> None:
    assert ctc.edit_distance(one, other) == ctc.edit_distance(other, one) == distance
