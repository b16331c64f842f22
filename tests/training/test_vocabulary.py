"""New rows: how they start, in tied and untied models, and which models are refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny import SOURCE_UNITS, TARGET_UNITS, TEXT, tiny_corpus
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, ViTModel
from transformers.models.vit.configuration_vit import ViTConfig

from raystt.corpus.card import Card
from raystt.training.model import ModelError
from raystt.training.vocabulary import extend, read_centroids

KNOWN = 36
"""Tokens that the base model knows; the four up to TEXT are special ones that it lacked."""


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    tiny_corpus(tmp_path)
    return tmp_path


@pytest.fixture
def card(corpus: Path) -> Card:
    card = Card.load(corpus)
    return replace(card, tokenizer=replace(card.tokenizer, base_vocabulary=KNOWN))


def llama(rows: int, *, tied: bool) -> LlamaForCausalLM:
    torch.manual_seed(4)
    config = LlamaConfig(
        vocab_size=rows,
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        tie_word_embeddings=tied,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.get_input_embeddings().weight.add_(torch.linspace(-1, 1, 16))
    return model


def tables(model) -> list[torch.Tensor]:
    inputs, head = model.get_input_embeddings().weight, model.get_output_embeddings().weight
    return [inputs] if head is inputs else [inputs, head]


@pytest.mark.parametrize("tied", [True, False])
def test_the_known_rows_stay_and_the_new_ones_start_at_their_mean(card: Card, tied: bool) -> None:
    model = llama(KNOWN, tied=tied)
    before = [table.detach().clone() for table in tables(model)]
    assert len(before) == (1 if tied else 2)
    assert extend(model, card, init="mean", seed=1)
    for old, new in zip(before, tables(model), strict=True):
        assert new.shape == (128, 16), "filled up, for the matrix units of a GPU"
        assert torch.equal(new[:KNOWN], old)
        torch.testing.assert_close(new[KNOWN:], old.mean(0).expand(128 - KNOWN, 16))
    assert model.config.vocab_size == 128
    assert model(torch.tensor([[card.vocabulary - 1]])).logits.shape[-1] == 128


def test_noise_has_the_spread_of_the_known_rows(card: Card) -> None:
    many = replace(card, units=replace(card.units, total=4000))
    model = llama(KNOWN, tied=False)
    with torch.no_grad():
        model.get_input_embeddings().weight[:, 0] *= 7
    before = [table.detach().clone() for table in tables(model)]
    extend(model, many, init="mean_noise", seed=1)
    for old, new in zip(before, tables(model), strict=True):
        started = new[KNOWN : many.vocabulary]
        torch.testing.assert_close(started.std(0), old.std(0, correction=0), rtol=0.06, atol=0)
        off = (started.mean(0) - old.mean(0)).abs()
        assert (off < 0.08 * old.std(0)).all()


def test_rows_depend_on_the_seed_alone(card: Card) -> None:
    models = [llama(KNOWN, tied=False) for _ in range(3)]
    for model, seed in zip(models, (1, 1, 2), strict=True):
        torch.rand(seed)  # what was drawn before must not matter
        extend(model, card, init="mean_noise", seed=seed)
    first, again, other = (tables(model) for model in models)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])
    assert not torch.equal(first[0][KNOWN:], first[1][KNOWN:])


def write_codebooks(corpus: Path, card: Card) -> torch.Tensor:
    generator = torch.Generator().manual_seed(3)
    books = []
    for book in (card.units.source, card.units.target):
        centroids = torch.randn(book.clusters, 5, generator=generator) * 9 + 4
        centroids[1] = centroids[0] + 0.01  # two units that sound alike
        path = corpus / book.path
        path.parent.mkdir(exist_ok=True)
        names = {"mean": torch.zeros(5), "scale": torch.ones(5), "centroids": centroids}
        save_file(names, path)
        books.append(centroids)
    return torch.cat([(b - b.mean(0)) / b.std(0, correction=0) for b in books])


def test_units_that_sound_alike_start_alike(corpus: Path, card: Card) -> None:
    expected = write_codebooks(corpus, card)
    centroids = read_centroids(corpus, card)
    torch.testing.assert_close(centroids, expected)
    model = llama(KNOWN, tied=True)
    old = tables(model)[0].detach().clone()
    extend(model, card, init="kmeans", seed=1, centroids=centroids)
    new = tables(model)[0][TEXT : card.vocabulary]
    assert new.shape == (SOURCE_UNITS + TARGET_UNITS, 16)
    torch.testing.assert_close(new.mean(0), old.mean(0), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        new.std(0, correction=0), old.std(0, correction=0), atol=1e-5, rtol=1e-4
    )
    for first in (0, SOURCE_UNITS):
        near = (new[first] - new[first + 1]).norm()
        others = torch.cdist(new[first : first + 1], new)[0]
        assert near < 0.05 * others.median()


@pytest.mark.parametrize("tied", [True, False])
def test_rows_that_a_base_has_too_many_of_stay(card: Card, tied: bool) -> None:
    larger = llama(card.vocabulary + 5, tied=tied)
    before = [table.detach().clone() for table in tables(larger)]
    assert extend(larger, card, init="mean", seed=1)
    for old, new in zip(before, tables(larger), strict=True):
        assert torch.equal(old[:KNOWN], new[:KNOWN])
        assert torch.equal(old[card.vocabulary :], new[card.vocabulary :])
        # Nothing was ever trained on these, whatever is in them.
        torch.testing.assert_close(new[KNOWN], old[:KNOWN].mean(0))
    after = [table.detach().clone() for table in tables(larger)]
    assert not extend(larger, card, init="mean_noise", seed=2), "it says that it was extended"
    assert all(torch.equal(a, b) for a, b in zip(after, tables(larger), strict=True))
    padded = llama(KNOWN + 2, tied=tied)  # two rows that no token ever had
    extend(padded, card, init="mean", seed=1)
    table = tables(padded)[0]
    torch.testing.assert_close(table[KNOWN], table[:KNOWN].mean(0))


def test_a_head_with_other_names_is_extended_too(card: Card) -> None:
    torch.manual_seed(1)
    config = GPT2Config(
        vocab_size=KNOWN, n_embd=16, n_layer=1, n_head=2, bos_token_id=1, eos_token_id=2
    )
    model = GPT2LMHeadModel(config)
    extend(model, card, init="mean_noise", seed=1)
    assert model.transformer.wte.weight.shape[0] == 128
    assert model.lm_head.weight is model.transformer.wte.weight


def test_a_model_of_another_tokenizer_is_refused(card: Card) -> None:
    with pytest.raises(ModelError, match=r"35 token embeddings.*36 tokens.*corpus\.tokenizer"):
        extend(llama(KNOWN - 1, tied=True), card, init="mean", seed=1)


def test_a_model_without_token_embeddings_is_refused(card: Card) -> None:
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16,
        image_size=16, patch_size=8,
    )  # fmt: skip
    with pytest.raises(ModelError, match="no table of token embeddings"):
        extend(ViTModel(config), card, init="mean", seed=1)


def test_codebooks_that_do_not_fit_are_refused(corpus: Path, card: Card) -> None:
    with pytest.raises(ModelError, match="not a codebook"):
        read_centroids(corpus, card)
    write_codebooks(corpus, card)
    wrong = replace(card, units=replace(card.units, source=replace(card.units.source, clusters=9)))
    with pytest.raises(ModelError, match="12 clusters, the card says 9"):
        read_centroids(corpus, wrong)
