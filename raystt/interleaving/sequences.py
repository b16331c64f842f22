"""Sequences of interleaved speech units and text, by word thresholds.

Every word of every utterance has a threshold in [0, 1), drawn from (seed, utterance, epoch, side)
and nothing else. It is text while the ratio in force is at least its threshold, and units
otherwise; at ratio 0 nothing is text. So a falling ratio only ever turns text into speech, and the
tokens do not depend on the batch, the world size, the order of arrival or a resume.

Two rules draw the thresholds. `independent`: uniform. `poisson`: spans of words as in Algorithm 1
of arXiv 2506.10299. The algorithm goes on drawing spans while the fraction of words taken is at
most the ratio, hence a word is text iff the fraction taken before its span is: that fraction is
its threshold. The achieved ratio overshoots the nominal one, and is returned with the sequences.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from raystt.interleaving.rules import (
    SOURCE,
    TARGET,
    Floats,
    Interleaving,
    Keys,
    Offsets,
    thresholds,
)
from raystt.interleaving.streams import Bools, Layout, Side, Tokens, joined, mark, mixed, plain

__all__ = ["IGNORED", "Layout", "Prompts", "Sequences", "Side", "interleave", "prompt"]

IGNORED = -100  # label of a token that is not to be predicted, as torch's cross entropy wants it


@dataclass(frozen=True, eq=False)
class Prompts:
    """Hold what a model is given to continue.

    Attributes:
        tokens: int32 [total].
        offsets: int64 [utterances + 1].
    """

    tokens: Tokens
    offsets: Offsets


@dataclass(frozen=True, eq=False)
class Sequences:
    """Hold the training sequences of a batch and the text ratio achieved in them.

    Attributes:
        tokens: int32 [total].
        labels: int64 [total], the token where it is to be predicted, -100 elsewhere; not shifted.
        offsets: int64 [utterances + 1].
        counts: int64 [utterances, 4], of both interleaved streams together: words that became text,
            words, text tokens, tokens. Framing (modality tokens are that too) and plain text do not
            count; of `replacement: mask`, masked words and masks count as text.
    """

    tokens: Tokens
    labels: npt.NDArray[np.int64]
    offsets: Offsets
    counts: Offsets

    def part(self, start: int, stop: int) -> Sequences:
        """Return the sequences of the utterances from `start` up to `stop`."""
        first, last = self.offsets[start], self.offsets[stop]
        return Sequences(
            self.tokens[first:last],
            self.labels[first:last],
            self.offsets[start : stop + 1] - first,
            self.counts[start:stop],
        )

    @property
    def words_text(self) -> int:
        """Return how many words became text."""
        return int(self.counts[:, 0].sum())

    @property
    def words_total(self) -> int:
        """Return how many words there are."""
        return int(self.counts[:, 1].sum())

    @property
    def tokens_text(self) -> int:
        """Return how many tokens are text in the place of units."""
        return int(self.counts[:, 2].sum())

    @property
    def tokens_total(self) -> int:
        """Return how many tokens there are."""
        return int(self.counts[:, 3].sum())

    @property
    def achieved_words(self) -> float:
        """Return the share of words that is text, in [0, 1]; 0.0 of no words."""
        return self.words_text / self.words_total if self.words_total else 0.0

    @property
    def achieved_tokens(self) -> float:
        """Return the share of tokens that is text, in [0, 1]; 0.0 of no tokens."""
        return self.tokens_text / self.tokens_total if self.tokens_total else 0.0


def interleave(
    source: Side,
    target: Side,
    ratio: npt.ArrayLike,
    *,
    keys: Keys,
    epochs: Offsets,
    seed: int,
    interleaving: Interleaving,
    layout: Layout,
) -> Sequences:
    """Build the training sequences of a batch.

    `direct` gives `<s> I_src <sep> I_tgt </s>` with the loss on I_tgt and `</s>`;
    `chain_of_thought` gives `<s> I_src <sep> T_src <sep> T_tgt <sep> I_tgt </s>` with the loss on
    everything after the first separator. Modality tokens are learned where their stream is.

    Args:
        source: Source side of the batch.
        target: Target side of the same utterances.
        ratio: Nominal text ratio in [0, 1]; 0 is pure speech, 1 is pure text. [2], of source and
            target, where they differ; [utterances, 2], where those of utterances do: batches of
            several steps can be built at once.
        keys: uint64 [utterances], from `utterance_key`.
        epochs: int64 [utterances], how often each utterance was seen before.
        seed: Seed of the run.
        interleaving: Rule, side, format and controls.
        layout: Framing tokens.

    Returns:
        The sequences and the counts of what became text.

    Raises:
        ValueError: The ratio is outside [0, 1], or the arguments differ in their utterances.
    """
    ratios = np.broadcast_to(np.asarray(ratio, np.float64), (len(keys), 2))
    if not ((ratios >= 0.0) & (ratios <= 1.0)).all():
        raise ValueError(f"ratio is {ratio!r}; give a share of words in [0, 1]")
    sizes = {
        "source": len(source.word_offsets) - 1,
        "target": len(target.word_offsets) - 1,
        "keys": len(keys),
        "epochs": len(epochs),
    }
    if len(set(sizes.values())) > 1:
        counts = ", ".join(f"{name} {size}" for name, size in sizes.items())
        raise ValueError(f"utterances differ ({counts}); pass the same ones to all four")

    draw = functools.partial(thresholds, interleaving, seed=seed, keys=keys, epochs=epochs)
    source_text, target_text = _choose((source, target), ratios, draw, interleaving.side)
    speech_in, counts_in = mixed(source, source_text, interleaving, layout)
    speech_out, counts_out = mixed(target, target_text, interleaving, layout)
    utterances = sizes["source"]
    separator = mark(layout.separator, utterances)
    context = [mark(layout.bos, utterances), speech_in, separator]
    learned = [speech_out, mark(layout.eos, utterances)]
    if interleaving.format == "chain_of_thought":
        thoughts = [plain(side, interleaving, layout) for side in (source, target)]
        learned = [thoughts[0], separator, thoughts[1], separator, *learned]

    tokens, offsets, lengths = joined(context + learned)
    predicted = np.repeat([[False] * len(context) + [True] * len(learned)], utterances, axis=0)
    labels = np.where(np.repeat(predicted, lengths), tokens.astype(np.int64), IGNORED)
    return Sequences(
        tokens=tokens,
        labels=labels,
        offsets=offsets,
        counts=counts_in + counts_out,
    )


def prompt(source: Side, layout: Layout, interleaving: Interleaving) -> Prompts:
    """Build what a model is given to translate a batch: `<s> I_src <sep>`, pure speech.

    With modality tokens, the speech begins with its token as in training.

    Args:
        source: Source side; only its units are read.
        layout: Framing tokens.
        interleaving: That of the run, for its modality tokens. Both formats open alike; they
            differ in what the model goes on to write.

    Returns:
        One prompt an utterance.
    """
    none = np.zeros(int(source.word_offsets[-1]), dtype=np.bool_)
    speech, _ = mixed(source, none, interleaving, layout)
    utterances = len(source.word_offsets) - 1
    marks = mark(layout.bos, utterances), mark(layout.separator, utterances)
    tokens, offsets, _ = joined([marks[0], speech, marks[1]])
    return Prompts(tokens, offsets)


def _choose(
    sides: tuple[Side, Side], ratios: Floats, draw: Callable[..., Floats], interleaved: str
) -> tuple[Bools, Bools]:
    """Say which words of the source and of the target are text, bool [words] each.

    `ratios` are [utterances, 2]. Both sides are drawn in one pass, as twice as many utterances.
    """
    words = len(sides[0].text_offsets) - 1, len(sides[1].text_offsets) - 1
    counts = np.concatenate([side.word_counts for side in sides])
    if not ratios.any():
        return np.zeros(words[0], np.bool_), np.zeros(words[1], np.bool_)
    by_word = [np.repeat(ratios[:, n], side.word_counts) for n, side in enumerate(sides)]
    drawn = np.split(draw(word_counts=counts, streams=(SOURCE, TARGET)), [words[0]])
    source, target = (
        (words <= ratio) & (ratio > 0.0) & (interleaved in ("both", name))
        for words, ratio, name in zip(drawn, by_word, ("source", "target"), strict=True)
    )
    return source, target
