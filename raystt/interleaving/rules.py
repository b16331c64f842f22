"""The threshold of each word: the ratio from which on it is text.

Thresholds lie in [0, 1) and are drawn from (seed, utterance, epoch, side) by a counter-based hash,
never from a shared generator: they depend on neither batch, world size nor order of arrival.
"""

from __future__ import annotations

import functools
import hashlib
import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from raystt.strict import Part

Floats = npt.NDArray[np.float64]
Keys = npt.NDArray[np.uint64]
Offsets = npt.NDArray[np.int64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)

SOURCE, TARGET = 0, 1
"""The sides of an utterance as streams of random numbers."""


class Interleaving(Part):
    """How words are chosen and how a sequence is laid out: also this part of a run's config.

    The text of a sequence in the format `direct` is I_src I_tgt, in `chain_of_thought` I_src T_src
    T_tgt I_tgt, where I is an interleaved stream and T plain text.

    The paper's mask control (section 4) does not say whether it has one mask a unit or a word, nor
    whether the loss counts on it: here it is one a unit, so that the length stays, and a mask is
    learned like any other token of its stream. It mentions no modality tokens; SpiRit-LM and SIMS
    have them. Masks count as speech there.

    Raises:
        pydantic.ValidationError: A field has no such value. It is a ValueError.
    """

    rule: Literal["independent", "poisson"] = Field(
        default="poisson", description="how words are drawn: one by one, or the paper's spans"
    )
    span_mean: float = Field(
        default=3.0, ge=0, le=100, description="mean l of the spans' Poisson length 1 + l, words"
    )
    side: Literal["both", "source", "target"] = Field(
        default="both", description="sides interleaved; the other one stays pure speech"
    )
    format: Literal["direct", "chain_of_thought"] = Field(
        default="direct", description="sequence format"
    )
    replacement: Literal["text", "mask"] = Field(
        default="text", description="what takes the place of units; mask = the paper's control"
    )
    alignment: Literal["words", "equal"] = Field(
        default="words",
        description="units of a word: its own, or as many as any word's = the paper's control",
    )
    modality_tokens: bool = Field(
        default=False, description="tokens where speech turns to text and back"
    )


def untranscribed_complaint(interleaving: Interleaving) -> str | None:
    """Say why source speech without text cannot be interleaved like this, and what to do.

    An untranscribed utterance is one word without text that has all the units: there is nothing
    to put in their place, and no source text to write in a chain of thought.

    Args:
        interleaving: What is asked for.

    Returns:
        One sentence that names the keys at fault, or None if nothing is.
    """
    faults: list[tuple[str, str, str]] = []
    if interleaving.side != "target":
        faults.append(("side", interleaving.side, "target"))
    if interleaving.format != "direct":
        faults.append(("format", interleaving.format, "direct"))
    if not faults:
        return None
    found = " and ".join(f"interleaving.{key}: {value}" for key, value, _ in faults)
    fixes = " and ".join(f"interleaving.{key}: {fix}" for key, _, fix in faults)
    need = "needs" if len(faults) == 1 else "need"
    return f"{found} {need} source text, and the corpus has none; set {fixes}"


def utterance_key(utterance_id: str) -> int:
    """Hash an utterance's id to 64 bits, the same on every machine and in every process.

    Args:
        utterance_id: The id in the shards.

    Returns:
        An integer in [0, 2**64).
    """
    return int.from_bytes(hashlib.blake2b(utterance_id.encode(), digest_size=8).digest(), "little")


def thresholds(
    interleaving: Interleaving,
    *,
    seed: int,
    keys: Keys,
    epochs: Offsets,
    word_counts: Offsets,
    streams: Sequence[int],
) -> Floats:
    """Draw the threshold of every word of a batch.

    Args:
        interleaving: The rule.
        seed: Seed of the run.
        keys: uint64 [utterances], from `utterance_key`.
        epochs: int64 [utterances], how often each utterance was seen before.
        word_counts: int64 [streams * utterances], all utterances of the first stream first.
        streams: `SOURCE`, `TARGET` or both: the two sides draw independently.

    Returns:
        float64 [sum of `word_counts`] in [0, 1), word after word, utterance after utterance.
    """
    return _draw(interleaving, _states(seed, keys, epochs, *streams), word_counts)


def _mix(values: Keys) -> Keys:
    """Scramble 64-bit values: the output function of SplitMix64, a bijection."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _states(seed: int, keys: Keys, epochs: Offsets, *streams: int) -> Keys:
    """Derive the state of a generator of its own for each utterance, uint64 [streams * utterances].

    A counter-based hash in place of a generator that is passed around: a word's random number is
    a function of where the word is, not of what was drawn before it.
    """
    states = _mix(np.full(len(keys), seed & 0xFFFFFFFFFFFFFFFF, np.uint64) + _GOLDEN)
    states = _mix((states ^ keys.astype(np.uint64)) + _GOLDEN)
    states = _mix((states ^ epochs.astype(np.uint64)) + _GOLDEN)
    numbers = np.array(streams, np.uint64)[:, None]
    return _mix((states ^ numbers) + _GOLDEN).ravel()


def _uniform(states: Keys, counters: npt.NDArray[np.int64]) -> Floats:
    """Return the draw number `counters` (from 0) of SplitMix64 from each state, in [0, 1)."""
    hashes = _mix(states + (counters.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _draw(interleaving: Interleaving, states: Keys, word_counts: Offsets) -> Floats:
    """Draw thresholds, float64 [words], from the state of each utterance."""
    if interleaving.rule == "poisson":
        return _span_thresholds(states, word_counts, interleaving.span_mean)
    starts = np.cumsum(word_counts) - word_counts
    positions = np.arange(int(word_counts.sum())) - np.repeat(starts, word_counts)
    return _uniform(np.repeat(states, word_counts), positions)


@functools.lru_cache(maxsize=16)
def _poisson_cdf(mean: float) -> Floats:
    """Return P(l <= 0), P(l <= 1), … of a Poisson distribution until nothing is left."""
    longest = math.ceil(mean + 12.0 * math.sqrt(mean) + 20.0)
    log_mean = math.log(mean) if mean else -math.inf
    terms = [math.exp(-mean)]
    terms += [math.exp(n * log_mean - mean - math.lgamma(n + 1)) for n in range(1, longest)]
    return np.cumsum(terms)


def _span_thresholds(states: Keys, word_counts: Offsets, span_mean: float) -> Floats:
    """Draw spans for all utterances at once, one span an utterance a turn, until all is taken.

    A span starts at a word drawn uniformly among those not yet taken: the first of them in a
    random order of the words that is drawn once. It stops at the end of the utterance, and words
    in it that an earlier span took keep their threshold.
    """
    width = int(word_counts.max(initial=0))
    columns = np.arange(width)
    free = columns < word_counts[:, None]
    exists = free.copy()
    order = np.where(free, _uniform(states[:, None], 2 * columns), np.inf)
    draws = _uniform(states[:, None], 2 * columns + 1)
    lasts = columns + np.searchsorted(_poisson_cdf(span_mean), draws, side="right")
    before = np.zeros(order.shape, np.int64)  # words taken before the span of each word
    taken = np.zeros(len(states), np.int64)
    rows = np.arange(len(states))
    while np.any(free):
        starts = order.argmin(axis=1)
        spans = (columns >= starts[:, None]) & (columns <= lasts[rows, starts][:, None]) & free
        np.copyto(before, taken[:, None], where=spans)
        np.copyto(order, np.inf, where=spans)  # never the first again
        free ^= spans
        taken += spans.sum(axis=1)
    return before[exists] / np.repeat(word_counts, word_counts)
