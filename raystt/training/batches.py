"""From shard rows to packed micro-batches.

Global batch (a pyarrow table of `batch_utterances` rows with their epochs, see `corpus.reading`) ->
interleaved sequences (`interleave`) -> micro-batches of one rank, packed without padding and
bounded in tokens.

Every rank interleaves the whole global batch and takes its part of it, so that the tokens do not
depend on the world size and every rank knows, without communication, how many micro-batches the
others have and how many tokens the loss is averaged over.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import torch

from raystt.corpus.card import Card
from raystt.corpus.rows import side
from raystt.errors import BadInput
from raystt.interleaving.rules import Interleaving, untranscribed_complaint, utterance_key
from raystt.interleaving.sequences import IGNORED, Layout, Sequences, interleave

_AT_ONCE = 1024  # utterances; more are no faster


class Untranscribed(BadInput, ValueError):
    """Source text is asked for that the corpus does not have; the text names the key."""


@dataclass(frozen=True)
class MicroBatch:
    """One packed row of sequences.

    Attributes:
        tokens: int64 `[tokens]`.
        positions: int64 `[tokens]`, from 0 in each sequence.
        borders: int32 `[sequences + 1]`, cumulative lengths.
        predicting: int64 `[loss tokens]`, positions whose next token is to be predicted.
        targets: int64 `[loss tokens]`, those next tokens.
        longest: Longest sequence, in tokens.
    """

    tokens: torch.Tensor
    positions: torch.Tensor
    borders: torch.Tensor
    predicting: torch.Tensor
    targets: torch.Tensor
    longest: int

    def to(self, device: str) -> MicroBatch:
        """Return it on a device."""
        tensors = {
            field.name: getattr(self, field.name).to(device)
            for field in fields(self)
            if field.name != "longest"
        }
        return replace(self, **tensors)


@dataclass(frozen=True)
class StepBatch:
    """One optimiser step as one rank sees it; the counts are those of the whole global batch."""

    micro_batches: tuple[MicroBatch, ...]
    loss_tokens: int
    tokens: int
    words_text: int
    words_total: int
    tokens_text: int
    tokens_total: int


def assemble(
    table: pa.Table,
    ratio: npt.ArrayLike,
    *,
    card: Card,
    interleaving: Interleaving,
    seed: int,
    rank: int,
    world_size: int,
    max_tokens: int,
) -> StepBatch:
    """Interleave a global batch at `ratio` and pack one rank's share of it; see `assembled`."""
    (batch,) = assembled(
        [table], np.broadcast_to(np.asarray(ratio, np.float64), (1, 2)), card=card,
        interleaving=interleaving, seed=seed, rank=rank, world_size=world_size,
        max_tokens=max_tokens,
    )  # fmt: skip
    return batch


def assembled(
    tables: Iterable[pa.Table],
    ratios: npt.NDArray[np.float64],
    *,
    card: Card,
    interleaving: Interleaving,
    seed: int,
    rank: int,
    world_size: int,
    max_tokens: int,
) -> Iterator[StepBatch]:
    """Interleave global batches, one a step, and pack one rank's share of each.

    Small batches are interleaved many at a time: a call of numpy costs as much for 16 utterances
    as for 200.

    Args:
        tables: A global batch each step, `corpus.reading.COLUMNS` and `epoch`, of one size.
        ratios: float64 [steps, 2], nominal share of words of source and target that are text, in
            [0, 1].
        card: The corpus card (token ids).
        interleaving: Rule, sides, format and controls.
        seed: Seed of the thresholds (shared by all trials of a search).
        rank: Rank of this worker.
        world_size: Number of workers.
        max_tokens: Bound of a micro-batch, in tokens; one longer sequence goes alone.

    Yields:
        A batch for each table, and so fewer than there are ratios if the tables end early.

    Raises:
        Untranscribed: The interleaving needs source text that the corpus does not have.
    """
    complaint = None if card.transcribed else untranscribed_complaint(interleaving)
    if complaint is not None:
        raise Untranscribed(complaint)
    offset, layout = card.tokenizer.unit_offset, layout_of(card)
    stream, done = iter(tables), 0
    while (first := next(stream, None)) is not None:
        several = max(1, min(_AT_ONCE // max(first.num_rows, 1), len(ratios) - done))
        chunk = [first, *itertools.islice(stream, several - 1)]
        rows = [table.num_rows for table in chunk]
        table = pa.concat_tables(chunk)
        keys = np.array([utterance_key(name) for name in table["id"].to_pylist()], dtype=np.uint64)
        sequences = interleave(
            side(table, "source", offset),
            side(table, "target", offset),
            np.repeat(ratios[done : done + len(chunk)], rows, axis=0),
            keys=keys,
            epochs=table["epoch"].to_numpy(),
            seed=seed,
            interleaving=interleaving,
            layout=layout,
        )
        ends = np.cumsum(rows)
        for start, stop in zip(ends - rows, ends, strict=True):
            yield _step_batch(sequences.part(start, stop), rank, world_size, max_tokens)
        done += len(chunk)


def _step_batch(sequences: Sequences, rank: int, world_size: int, max_tokens: int) -> StepBatch:
    lengths = np.diff(sequences.offsets)
    groups = [_pack(members, lengths, max_tokens) for members in _share(lengths, world_size)]
    wanted = max(len(group) for group in groups)
    own = [_micro_batch(sequences, members) for members in groups[rank]]
    # ZeRO stages 2 and 3 communicate in every backward pass: all ranks need as many of them.
    own += [_silent(sequences) for _ in range(wanted - len(own))]
    return StepBatch(
        micro_batches=tuple(own),
        loss_tokens=int((sequences.labels != IGNORED).sum()),
        tokens=int(lengths.sum()),
        words_text=sequences.words_text,
        words_total=sequences.words_total,
        tokens_text=sequences.tokens_text,
        tokens_total=sequences.tokens_total,
    )


def layout_of(card: Card) -> Layout:
    """Return the special tokens of the sequences."""
    names = card.tokenizer
    return Layout(
        bos=names.bos,
        separator=names.separator,
        eos=names.eos,
        mask=names.mask,
        speech=names.speech,
        text=names.text,
    )


def _share(lengths: np.ndarray, world_size: int) -> list[list[int]]:
    """Share sequences among ranks, longest first to the rank with the fewest tokens."""
    shares: list[list[int]] = [[] for _ in range(world_size)]
    loads = [0] * world_size
    for index in np.argsort(-lengths, kind="stable").tolist():
        rank = loads.index(min(loads))
        shares[rank].append(index)
        loads[rank] += int(lengths[index])
    return [sorted(share) for share in shares]


def _pack(members: list[int], lengths: np.ndarray, max_tokens: int) -> list[list[int]]:
    """Cut a rank's sequences into micro-batches of at most `max_tokens`, in order."""
    packs: list[list[int]] = []
    room = 0
    for index in members:
        length = int(lengths[index])
        if not packs or length > room:
            packs.append([])
            room = max_tokens
        packs[-1].append(index)
        room -= length
    return packs


def _micro_batch(sequences: Sequences, members: list[int]) -> MicroBatch:
    starts, stops = sequences.offsets[:-1], sequences.offsets[1:]
    lengths = (stops - starts)[members]
    tokens = np.concatenate([sequences.tokens[starts[i] : stops[i]] for i in members])
    labels = np.concatenate([sequences.labels[starts[i] : stops[i]] for i in members])
    borders = np.concatenate([[0], np.cumsum(lengths)])
    labels[borders[:-1]] = IGNORED  # nothing predicts the first token of a sequence
    predicted = np.flatnonzero(labels != IGNORED)
    return MicroBatch(
        tokens=torch.from_numpy(tokens.astype(np.int64)),
        positions=torch.from_numpy(np.concatenate([np.arange(n) for n in lengths])),
        borders=torch.from_numpy(borders.astype(np.int32)),
        predicting=torch.from_numpy(predicted - 1),
        targets=torch.from_numpy(labels[predicted].astype(np.int64)),
        longest=int(lengths.max()),
    )


def _silent(sequences: Sequences) -> MicroBatch:
    """A micro-batch of two tokens that adds nothing to the loss."""
    return MicroBatch(
        tokens=torch.from_numpy(sequences.tokens[:2].astype(np.int64)),
        positions=torch.arange(2),
        borders=torch.tensor([0, 2], dtype=torch.int32),
        predicting=torch.zeros(0, dtype=torch.int64),
        targets=torch.zeros(0, dtype=torch.int64),
        longest=2,
    )
