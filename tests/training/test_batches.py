"""Batches: the same tokens whatever the world size, packed without padding, bounded."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from tiny import TEXT, tiny_corpus

from raystt.corpus.card import Card
from raystt.corpus.reading import local_batches, split_shards
from raystt.errors import BadInput
from raystt.interleaving.rules import Interleaving
from raystt.interleaving.sequences import Layout
from raystt.training import batches
from raystt.training.batches import StepBatch, assemble, assembled, layout_of


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Card]:
    path = tmp_path_factory.mktemp("corpus")
    return path, tiny_corpus(path)


def batch(
    corpus: tuple[Path, Card], ratio: float, rank=0, world_size=1, max_tokens=4096, **fields: Any
):
    path, card = corpus
    shards = split_shards(path, card, "es", "train")
    table = next(local_batches(shards, seed=3, start_step=0, stop_step=1, batch=8))
    return assemble(
        table, ratio, card=card, interleaving=Interleaving(**fields), seed=3,
        rank=rank, world_size=world_size, max_tokens=max_tokens,
    )  # fmt: skip


def sequences(*batches: StepBatch) -> list[tuple[int, ...]]:
    """Return all sequences that are trained on, sorted (silent micro-batches left out)."""
    found = []
    for part in batches:
        for micro in part.micro_batches:
            if len(micro.targets):
                borders = micro.borders.tolist()
                for a, b in zip(borders, borders[1:], strict=False):
                    found.append(tuple(micro.tokens[a:b].tolist()))
    return sorted(found)


@pytest.mark.parametrize("world_size", [2, 3, 8])
@pytest.mark.parametrize("max_tokens", [30, 4096])
def test_world_size_does_not_change_the_tokens(corpus, world_size: int, max_tokens: int) -> None:
    alone = batch(corpus, 0.5)
    shares = [batch(corpus, 0.5, rank, world_size, max_tokens) for rank in range(world_size)]
    assert sequences(*shares) == sequences(alone)
    assert len({len(share.micro_batches) for share in shares}) == 1
    assert {share.loss_tokens for share in shares} == {alone.loss_tokens}
    predicted = sum(len(m.targets) for share in shares for m in share.micro_batches)
    assert predicted == alone.loss_tokens


def test_layout_is_that_of_the_card(corpus) -> None:
    """The tiny corpus numbers its special tokens so that no two can be mixed up."""
    layout = Layout(bos=1, separator=3, eos=2, mask=5, speech=6, text=7)
    assert layout_of(corpus[1]) == layout


def test_controls_reach_the_tokens(corpus) -> None:
    _, card = corpus
    bare, masked = batch(corpus, 0.0), batch(corpus, 1.0, replacement="mask")
    assert masked.tokens == bare.tokens
    for tokens in sequences(masked):
        assert set(tokens) == {card.tokenizer.bos, card.tokenizer.separator, card.tokenizer.eos, 5}
    for tokens in sequences(batch(corpus, 0.0, modality_tokens=True)):
        assert tokens[1] == tokens[tokens.index(3) + 1] == card.tokenizer.speech
    assert batch(corpus, 0.0, modality_tokens=True).tokens_total == bare.tokens_total


def test_untranscribed_source_is_not_asked_for_text(corpus) -> None:
    path, card = corpus
    untranscribed = (path, dataclasses.replace(card, transcribed=False))
    with pytest.raises(BadInput, match=r"interleaving\.side: both needs source text"):
        batch(untranscribed, 0.5)
    with pytest.raises(BadInput, match=r"set interleaving\.format: direct"):
        batch(untranscribed, 0.5, side="target", format="chain_of_thought")
    assert batch(untranscribed, 0.5, side="target").words_text > 0


def test_micro_batches_are_bounded(corpus) -> None:
    longest = max(map(len, sequences(batch(corpus, 0.0))))
    for micro in batch(corpus, 0.0, max_tokens=longest + 5).micro_batches:
        assert len(micro.tokens) <= longest + 5
        assert micro.borders[-1] == len(micro.tokens)
        assert micro.longest == int(torch.diff(micro.borders).max())


def test_targets_follow_their_positions_within_a_sequence(corpus) -> None:
    (micro,) = batch(corpus, 0.5).micro_batches
    assert torch.equal(micro.tokens[micro.predicting + 1], micro.targets)
    starts = set(micro.borders[:-1].tolist())
    assert not starts & set((micro.predicting + 1).tolist())
    assert torch.equal(micro.positions[micro.borders[:-1].long()], torch.zeros(8, dtype=torch.long))


def test_text_only_batches_are_pure_text(corpus) -> None:
    path, card = corpus
    shards = split_shards(path, card, "es", "text")
    table = next(local_batches(shards, seed=3, start_step=0, stop_step=1, batch=4))
    built = assemble(
        table, 1.0, card=card, interleaving=Interleaving(), seed=3,
        rank=0, world_size=1, max_tokens=999,
    )  # fmt: skip
    assert all(max(tokens) < TEXT for tokens in sequences(built))


def test_steps_continue_where_the_last_ended(corpus) -> None:
    path, card = corpus
    shards = split_shards(path, card, "es", "train")
    whole = list(local_batches(shards, seed=1, start_step=0, stop_step=7, batch=5))
    tail = list(local_batches(shards, seed=1, start_step=4, stop_step=7, batch=5))
    assert [t["id"].to_pylist() for t in whole[4:]] == [t["id"].to_pylist() for t in tail]
    assert [t["epoch"].to_pylist() for t in whole[4:]] == [t["epoch"].to_pylist() for t in tail]
    ids = np.concatenate([t["id"].to_pylist() for t in whole])[:24]
    assert len(set(ids[:12])) == len(set(ids[12:])) == 12


def test_changed_shard_is_refused(tmp_path: Path) -> None:
    card = tiny_corpus(tmp_path)
    shards = split_shards(tmp_path, card, "es", "train")
    path = shards[0][0]
    pq.write_table(pq.read_table(path, partitioning=None).slice(1), path)
    with pytest.raises(ValueError, match=r"part-00000.parquet.*prepare the corpus again"):
        list(local_batches(shards, seed=1, start_step=0, stop_step=4, batch=4))


@pytest.mark.parametrize("at_once", [1, 7, 8, 20, 24, 1024])
def test_batches_are_the_same_however_many_are_built_at_once(
    corpus, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, card = corpus
    shards = split_shards(path, card, "es", "train")
    tables = list(local_batches(shards, seed=3, start_step=0, stop_step=9, batch=8))
    ratios = np.linspace([0.9, 0.4], [0.0, 0.0], 9)
    given = {
        "card": card, "interleaving": Interleaving(), "seed": 3, "rank": 1, "world_size": 2,
        "max_tokens": 60,
    }  # fmt: skip
    monkeypatch.setattr(batches, "_AT_ONCE", at_once)
    found = list(assembled(tables[:8], ratios, **given))
    assert len(found) == 8  # no more than there are
    for table, ratio, made in zip(tables, ratios, found, strict=False):
        alone = assemble(table, ratio, **given)
        for one, other in zip(made.micro_batches, alone.micro_batches, strict=True):
            for field in dataclasses.fields(one):
                assert np.array_equal(getattr(one, field.name), getattr(other, field.name))
        assert dataclasses.replace(made, micro_batches=()) == dataclasses.replace(
            alone, micro_batches=()
        )
