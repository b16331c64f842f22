"""Interleaving: properties, a literal Algorithm 1 to agree with, and sequences kept for ever.

`python tests/interleaving/test_sequences.py` writes the golden sequences anew. They change only if
the tokens of every past run are meant to change.
"""

from __future__ import annotations

import bisect
import hashlib
import itertools
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raystt.interleaving.rules import (
    Interleaving,
    thresholds,
    untranscribed_complaint,
    utterance_key,
)
from raystt.interleaving.sequences import IGNORED, Layout, Sequences, Side, interleave, prompt

GOLDEN = Path(__file__).parents[1] / "golden" / "interleaving.json"
BOS, SEPARATOR, EOS = 1, 2, 3
MASKED, SPEECH, TEXT = 4, 5, 6
LAYOUT = Layout(bos=BOS, separator=SEPARATOR, eos=EOS, mask=MASKED, speech=SPEECH, text=TEXT)
RULES = ("independent", "poisson")

Word = tuple[list[int], list[int]]  # text tokens, unit tokens
Utterance = tuple[list[Word], list[Word]]  # source, target

# A busy machine must not fail a test.
relaxed = settings(deadline=None, max_examples=60)
ratios = st.floats(0.0, 1.0) | st.sampled_from([0.0, 0.1, 0.2, 0.3, 0.5, 0.9, 1.0])
interleavings = st.builds(
    Interleaving,
    rule=st.sampled_from(RULES),
    span_mean=st.floats(0.0, 12.0),
    side=st.sampled_from(["both", "source", "target"]),
    format=st.sampled_from(["direct", "chain_of_thought"]),
)
replacements = st.sampled_from(["text", "mask"])
alignments = st.sampled_from(["words", "equal"])
controlled = st.builds(
    lambda interleaving, **controls: Interleaving(**{**vars(interleaving), **controls}),
    interleavings.filter(lambda i: i.span_mean > 0.01),
    replacement=replacements,
    alignment=alignments,
    modality_tokens=st.booleans(),
)


@st.composite
def sides(draw: st.DrawFn, first: int) -> list[Word]:
    """Draw the words of one side; every token is there once: even ids are text, odd ones units.

    A word may lack units (a merged group) or text, and a side may lack words.
    """
    counter = itertools.count(first)
    shapes = draw(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 6)), max_size=9))
    return [
        ([2 * next(counter) for _ in range(text)], [2 * next(counter) + 1 for _ in range(units)])
        for text, units in shapes
    ]


batches = st.lists(st.tuples(sides(1000), sides(2000)), max_size=6)


def build(
    batch: list[Utterance],
    ratio: float | tuple[float, float],
    interleaving: Interleaving,
    *,
    names: list[str] | None = None,
    epochs: list[int] | None = None,
    seed: int = 7,
) -> Sequences:
    names = names or [f"utterance-{n}" for n in range(len(batch))]
    return interleave(
        Side.from_words([source for source, _ in batch]),
        Side.from_words([target for _, target in batch]),
        ratio,
        keys=np.array([utterance_key(name) for name in names], np.uint64),
        epochs=np.array(epochs or [0] * len(batch), np.int64),
        seed=seed,
        interleaving=interleaving,
        layout=LAYOUT,
    )


def split(sequences: Sequences) -> list[tuple[list[int], list[int]]]:
    """Return tokens and labels of each sequence."""
    return [
        (sequences.tokens[a:b].tolist(), sequences.labels[a:b].tolist())
        for a, b in itertools.pairwise(sequences.offsets.tolist())
    ]


def text_of(side: list[Word]) -> list[int]:
    return [token for text, _ in side for token in text]


def units_of(side: list[Word]) -> list[int]:
    return [token for _, units in side for token in units]


# A second implementation, one utterance and one integer at a time.

MASK = 2**64 - 1
GAMMA = 0x9E3779B97F4A7C15


def literal_mix(value: int) -> int:
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & MASK
    return value ^ (value >> 31)


def literal_uniforms(seed: int, key: int, epoch: int, stream: int, count: int) -> list[float]:
    state = literal_mix((seed + GAMMA) & MASK)
    for value in (key, epoch, stream):
        state = literal_mix(((state ^ value) + GAMMA) & MASK)
    return [(literal_mix((state + n * GAMMA) & MASK) >> 11) / 2**53 for n in range(1, count + 1)]


def literal_is_text(
    words: int, ratio: float, interleaving: Interleaving, uniforms: list[float]
) -> list[bool]:
    """Say which words are text by running Algorithm 1 up to the ratio."""
    selected = [False] * words
    if ratio == 0.0:
        return selected
    if interleaving.rule == "independent":
        return [uniform <= ratio for uniform in uniforms[:words]]
    mean = interleaving.span_mean
    cdf = list(
        itertools.accumulate(
            math.exp(n * math.log(mean) - mean - math.lgamma(n + 1)) for n in range(100)
        )
    )
    order = sorted(range(words), key=lambda word: uniforms[2 * word])
    while not all(selected) and sum(selected) / words <= ratio:
        start = next(word for word in order if not selected[word])
        length = bisect.bisect_right(cdf, uniforms[2 * start + 1])
        for word in range(start, min(start + length + 1, words)):
            selected[word] = True
    return selected


def literal_equal(side: list[Word]) -> list[Word]:
    """Deal the units out anew: every border is where it would be with words of equal lengths."""
    units = units_of(side)
    borders = [n * len(units) // len(side) for n in range(len(side))] + [len(units)]
    spans = itertools.pairwise(borders)
    return [(text, units[a:b]) for (text, _), (a, b) in zip(side, spans, strict=True)]


def literal_stream(side: list[Word], is_text: list[bool], interleaving: Interleaving) -> list[int]:
    if interleaving.alignment == "equal":
        side = literal_equal(side)
    stream = []
    for (text, units), chosen in zip(side, is_text, strict=True):
        if not chosen:
            stream += [(SPEECH, unit) for unit in units]
        elif interleaving.replacement == "mask":
            stream += [(SPEECH, MASKED) for _ in units]
        else:
            stream += [(TEXT, token) for token in text]
    return literal_tokens(stream, interleaving)


def literal_tokens(stream: list[tuple[int, int]], interleaving: Interleaving) -> list[int]:
    """Write (modality, token) out, with the modality where it is not the one before."""
    tokens, before = [], None
    for modality, token in stream:
        if interleaving.modality_tokens and modality != before:
            tokens.append(modality)
        tokens.append(token)
        before = modality
    return tokens


def literal_sequence(
    utterance: Utterance,
    ratio: float,
    interleaving: Interleaving,
    *,
    name: str,
    epoch: int,
    seed: int,
) -> tuple[list[int], list[int]]:
    streams = []
    for stream, (side, which) in enumerate(zip(utterance, ("source", "target"), strict=True)):
        uniforms = literal_uniforms(seed, utterance_key(name), epoch, stream, 2 * len(side))
        allowed = ratio if interleaving.side in ("both", which) else 0.0
        is_text = literal_is_text(len(side), allowed, interleaving, uniforms)
        streams.append(literal_stream(side, is_text, interleaving))
    source, target = streams
    given_part = [BOS, *source, SEPARATOR]
    learned = [*target, EOS]
    if interleaving.format == "chain_of_thought":
        plain = [
            literal_tokens([(TEXT, token) for token in text_of(side)], interleaving)
            for side in utterance
        ]
        learned = [*plain[0], SEPARATOR, *plain[1], SEPARATOR, *learned]
    return given_part + learned, [-100] * len(given_part) + learned


@relaxed
@given(batches, ratios, controlled, st.integers(0, 5))
def test_agrees_token_by_token_with_the_literal_implementation(
    batch: list[Utterance], ratio: float, interleaving: Interleaving, epoch: int
) -> None:
    names = [f"es-{n}" for n in range(len(batch))]
    epochs = [epoch + n for n in range(len(batch))]
    sequences = build(batch, ratio, interleaving, names=names, epochs=epochs, seed=11)
    assert sequences.tokens.dtype == np.int32
    assert sequences.labels.dtype == sequences.offsets.dtype == np.int64
    assert split(sequences) == [
        literal_sequence(utterance, ratio, interleaving, name=name, epoch=e, seed=11)
        for utterance, name, e in zip(batch, names, epochs, strict=True)
    ]


@relaxed
@given(batches, interleavings)
def test_ratio_0_is_pure_speech(batch: list[Utterance], interleaving: Interleaving) -> None:
    sequences = build(batch, 0.0, Interleaving(rule=interleaving.rule, side=interleaving.side))
    assert sequences.words_text == sequences.tokens_text == 0
    assert sequences.achieved_words == sequences.achieved_tokens == 0.0
    for (source, target), (tokens, labels) in zip(batch, split(sequences), strict=True):
        learned = [*units_of(target), EOS]
        assert tokens == [BOS, *units_of(source), SEPARATOR, *learned]
        assert labels == [-100] * (len(units_of(source)) + 2) + learned


@relaxed
@given(batches, st.sampled_from(RULES))
def test_ratio_1_is_pure_text(batch: list[Utterance], rule: Any) -> None:
    sequences = build(batch, 1.0, Interleaving(rule=rule))
    assert sequences.words_text == sequences.words_total
    assert sequences.tokens_text == sequences.tokens_total
    for (source, target), (tokens, _) in zip(batch, split(sequences), strict=True):
        assert tokens == [BOS, *text_of(source), SEPARATOR, *text_of(target), EOS]


@relaxed
@given(batches, interleavings, st.tuples(ratios, ratios))
def test_a_lower_ratio_only_turns_text_into_speech(
    batch: list[Utterance], interleaving: Interleaving, pair: tuple[float, float]
) -> None:
    low, high = (build(batch, ratio, interleaving) for ratio in sorted(pair))
    assert low.words_text <= high.words_text
    for (few, _), (many, _) in zip(split(low), split(high), strict=True):
        given_few, given_many = (set(s[: s.index(SEPARATOR)]) for s in (few, many))
        assert {t for t in given_few if t >= 2000 and t % 2 == 0} <= given_many
        last_few, last_many = (set(s[-1 - s[::-1].index(SEPARATOR) :]) for s in (few, many))
        assert {t for t in last_few if t >= 2000 and t % 2 == 0} <= last_many


@relaxed
@given(batches, ratios, interleavings, st.randoms(use_true_random=False))
def test_tokens_do_not_depend_on_batch_or_world_size(
    batch: list[Utterance], ratio: float, interleaving: Interleaving, rng: random.Random
) -> None:
    names = [f"fr-{n}" for n in range(len(batch))]
    epochs = [rng.randrange(4) for _ in batch]
    whole = split(build(batch, ratio, interleaving, names=names, epochs=epochs))
    shuffled = rng.sample(range(len(batch)), len(batch))
    for ranks in (1, 2, 3):
        for rank in range(ranks):
            mine = shuffled[rank::ranks]
            part = build(
                [batch[n] for n in mine],
                ratio,
                interleaving,
                names=[names[n] for n in mine],
                epochs=[epochs[n] for n in mine],
            )
            assert split(part) == [whole[n] for n in mine]


@relaxed
@given(batches, ratios, interleavings)
def test_counts_what_was_achieved(
    batch: list[Utterance], ratio: float, interleaving: Interleaving
) -> None:
    sequences = build(batch, ratio, Interleaving(**{**vars(interleaving), "format": "direct"}))
    body, sure, unseen = [], 0, 0
    for utterance, (tokens, _) in zip(batch, split(sequences), strict=True):
        shown = [token for token in tokens if token > EOS]
        body += shown
        for text, units in itertools.chain(*utterance):
            sure += bool(text) and text[0] in shown
            # What a word without text became cannot be told if it has no units either.
            unseen += not text and not (units and units[0] in shown)
    words = sum(len(side) for utterance in batch for side in utterance)
    assert sequences.words_total == words
    assert sequences.tokens_total == len(body)
    assert sure <= sequences.words_text <= sure + unseen
    assert sequences.tokens_text == sum(token % 2 == 0 for token in body)
    if words:
        assert sequences.achieved_words == sequences.words_text / words
    if body:
        assert sequences.achieved_tokens == sequences.tokens_text / len(body)


@relaxed
@given(batches, ratios, interleavings)
def test_chain_of_thought_adds_plain_text_and_learns_it(
    batch: list[Utterance], ratio: float, interleaving: Interleaving
) -> None:
    fields = vars(interleaving)
    direct = build(batch, ratio, Interleaving(**{**fields, "format": "direct"}))
    chain = build(batch, ratio, Interleaving(**{**fields, "format": "chain_of_thought"}))
    both = zip(batch, split(direct), split(chain), strict=True)
    for (source, target), (tokens, labels), (chain_tokens, chain_labels) in both:
        context = tokens.index(SEPARATOR) + 1
        thought = [*text_of(source), SEPARATOR, *text_of(target), SEPARATOR]
        assert chain_tokens == tokens[:context] + thought + tokens[context:]
        assert chain_labels == [-100] * context + thought + tokens[context:]
        assert labels == [-100] * context + tokens[context:]
    for name in ("words_text", "words_total", "tokens_text", "tokens_total"):
        assert getattr(chain, name) == getattr(direct, name)


@relaxed
@given(batches, ratios, st.sampled_from(RULES))
def test_one_side_is_what_both_sides_make_of_it(
    batch: list[Utterance], ratio: float, rule: Any
) -> None:
    both, source, target = (
        build(batch, ratio, Interleaving(rule=rule, side=side))
        for side in ("both", "source", "target")
    )
    each = zip(batch, split(both), split(source), split(target), strict=True)
    for (source_words, target_words), (two, _), (first, _), (second, _) in each:
        cut = two.index(SEPARATOR)
        assert first == [*two[:cut], SEPARATOR, *units_of(target_words), EOS]
        assert second == [BOS, *units_of(source_words), *two[cut:]]
    assert source.words_text + target.words_text == both.words_text


@relaxed
@given(batches, ratios, controlled)
def test_masks_keep_the_lengths_and_the_other_units(
    batch: list[Utterance], ratio: float, interleaving: Interleaving
) -> None:
    fields = {**vars(interleaving), "replacement": "mask"}
    made = build(batch, ratio, Interleaving(**fields))
    speech = build(batch, 0.0, Interleaving(**fields))
    masks = 0
    for (masked, labels), (pure, pure_labels) in zip(split(made), split(speech), strict=True):
        assert [a for a, b in zip(masked, pure, strict=True) if a != b].count(MASKED) == sum(
            a != b for a, b in zip(masked, pure, strict=True)
        )
        # The loss counts on a mask as on any other token of its stream.
        assert [a == -100 for a in labels] == [a == -100 for a in pure_labels]
        masks += masked.count(MASKED)
    assert made.tokens_text == masks and made.tokens_total == speech.tokens_total
    text = build(batch, ratio, Interleaving(**{**fields, "replacement": "text"}))
    assert (made.words_text, made.words_total) == (text.words_text, text.words_total)


@relaxed
@given(batches, ratios, controlled)
def test_modality_tokens_announce_every_run_and_change_nothing_else(
    batch: list[Utterance], ratio: float, interleaving: Interleaving
) -> None:
    fields = vars(interleaving)
    bare = build(batch, ratio, Interleaving(**{**fields, "modality_tokens": False}))
    made = build(batch, ratio, Interleaving(**{**fields, "modality_tokens": True}))
    for (tokens, labels), (without, without_labels) in zip(split(made), split(bare), strict=True):
        kept = [n for n, token in enumerate(tokens) if token not in (SPEECH, TEXT)]
        assert [tokens[n] for n in kept] == without
        assert [labels[n] for n in kept] == without_labels
        before = None
        for n, (token, after) in enumerate(itertools.pairwise(tokens)):
            if token in (SPEECH, TEXT):
                assert token != before and after > EOS and after not in (SPEECH, TEXT)
                assert (labels[n] == -100) == (labels[n + 1] == -100)
                before = token
            elif token <= EOS:
                before = None
            else:
                assert before == (TEXT if token > TEXT and token % 2 == 0 else SPEECH)
    for name in ("words_text", "words_total", "tokens_text", "tokens_total"):
        assert getattr(made, name) == getattr(bare, name)


@relaxed
@given(batches, ratios, controlled)
def test_speech_alone_has_one_modality_token_a_stream(
    batch: list[Utterance], ratio: float, interleaving: Interleaving
) -> None:
    fields = {**vars(interleaving), "modality_tokens": True, "format": "direct"}
    made = build(batch, 0.0, Interleaving(**fields))
    for (source, target), (tokens, _) in zip(batch, split(made), strict=True):
        speech = [
            [SPEECH, *units] if (units := units_of(side)) else [] for side in (source, target)
        ]
        assert tokens == [BOS, *speech[0], SEPARATOR, *speech[1], EOS]


def test_equal_words_have_equal_shares_of_the_units() -> None:
    """Ten units of four words, uneven in the corpus: 2, 3, 2 and 3 units each."""
    side: list[Word] = [([20], [101]), ([22], []), ([24], list(range(102, 110))), ([26], [110])]
    equal = Interleaving(rule="independent", alignment="equal", replacement="mask", side="source")
    seen = set()
    for epoch in range(40):
        ((tokens, _),) = split(build([(side, [])], 0.3, equal, epochs=[epoch]))
        borders = [0, 2, 5, 7, 10]
        words = [tuple(tokens[1:-2][a:b]) for a, b in itertools.pairwise(borders)]
        units = [tuple(range(101 + a, 101 + b)) for a, b in itertools.pairwise(borders)]
        for word, own in zip(words, units, strict=True):
            assert word in (own, (MASKED,) * len(own))
        seen |= {n for n, word in enumerate(words) if MASKED in word}
    assert seen == {0, 1, 2, 3}


@relaxed
@given(batches, ratios, controlled)
def test_untranscribed_sources_stay_speech(
    batch: list[Utterance], ratio: float, interleaving: Interleaving
) -> None:
    """One word without text has all the units of such a source."""
    fields = {**vars(interleaving), "side": "target", "format": "direct"}
    untranscribed = [([([], units_of(source))], target) for source, target in batch]
    found, whole = (
        split(build(given_batch, ratio, Interleaving(**fields)))
        for given_batch in (untranscribed, batch)
    )
    assert found == whole


@pytest.mark.parametrize(
    "side,form,complaint",
    [
        ("target", "direct", None),
        (
            "both",
            "direct",
            "interleaving.side: both needs source text, and the corpus has none; "
            "set interleaving.side: target",
        ),
        (
            "source",
            "chain_of_thought",
            "interleaving.side: source and interleaving.format: chain_of_thought need source "
            "text, and the corpus has none; "
            "set interleaving.side: target and interleaving.format: direct",
        ),
        (
            "target",
            "chain_of_thought",
            "interleaving.format: chain_of_thought needs source text, and the corpus has none; "
            "set interleaving.format: direct",
        ),
    ],
)
def test_names_what_needs_source_text(side: Any, form: Any, complaint: str | None) -> None:
    assert untranscribed_complaint(Interleaving(side=side, format=form)) == complaint


@relaxed
@given(batches, controlled)
def test_a_prompt_is_how_a_sequence_of_pure_speech_starts(
    batch: list[Utterance], interleaving: Interleaving
) -> None:
    made = prompt(Side.from_words([source for source, _ in batch]), LAYOUT, interleaving)
    assert made.tokens.dtype == np.int32 and made.offsets.dtype == np.int64
    sequences = split(build(batch, 0.0, interleaving))
    for n, (tokens, labels) in enumerate(sequences):
        start = made.tokens[made.offsets[n] : made.offsets[n + 1]].tolist()
        assert start == tokens[: len(start)]
        assert set(labels[: len(start)]) == {-100} and -100 not in labels[len(start) :]


def test_epoch_seed_utterance_and_side_draw_anew() -> None:
    def drawn(rule: Any, seed: int = 1, name: str = "a", epoch: int = 0, stream: int = 0) -> Any:
        return thresholds(
            Interleaving(rule=rule),
            seed=seed,
            keys=np.array([utterance_key(name)], np.uint64),
            epochs=np.array([epoch]),
            word_counts=np.array([40]),
            streams=[stream],
        ).tolist()

    for rule in RULES:
        base = drawn(rule)
        others = [
            drawn(rule, seed=2),
            drawn(rule, seed=-1),
            drawn(rule, name="b"),
            drawn(rule, epoch=1),
            drawn(rule, stream=1),
        ]
        assert base == drawn(rule)
        assert len({tuple(values) for values in [base, *others]}) == 6


def test_random_numbers_are_splitmix64() -> None:
    """The first draws from state 1234567 that other implementations publish."""
    assert [literal_mix((1234567 + n * GAMMA) & MASK) for n in (1, 2, 3)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]


def test_independent_thresholds_are_uniform_and_uncorrelated() -> None:
    utterances, words = 4000, 10

    def drawn(epoch: int, stream: int) -> Any:
        return thresholds(
            Interleaving(rule="independent"),
            seed=0,
            keys=np.arange(utterances, dtype=np.uint64),  # keys that are no hashes must do, too
            epochs=np.full(utterances, epoch),
            word_counts=np.full(utterances, words),
            streams=[stream],
        ).reshape(utterances, words)

    base = drawn(0, 0)
    ordered = np.sort(base.ravel())
    assert ordered[0] >= 0.0 and ordered[-1] < 1.0
    deviation = np.abs(ordered - np.linspace(0, 1, ordered.size)).max()
    assert deviation < 1.95 / math.sqrt(ordered.size)  # Kolmogorov-Smirnov, 0.1 %
    for other in (drawn(0, 1), drawn(1, 0), np.roll(base, 1, axis=0), np.roll(base, 1, axis=1)):
        correlation = np.corrcoef(base.ravel(), other.ravel())[0, 1]
        assert abs(correlation) < 4 / math.sqrt(base.size)


# The paper's Algorithm 1, with a generator as anybody would write it.


def algorithm_1(words: int, ratio: float, mean: float, rng: random.Random) -> list[bool]:
    """Select words until their share exceeds the ratio; nothing is left to select at ratio 1."""
    selected = [False] * words
    while sum(selected) / words <= ratio and not all(selected):
        start = rng.choice([word for word in range(words) if not selected[word]])
        for word in range(start, min(start + poisson(mean, rng) + 1, words)):
            selected[word] = True
    return selected


def poisson(mean: float, rng: random.Random) -> int:
    """Count the arrivals of a Poisson process in a unit of time."""
    time, count = rng.expovariate(mean), 0
    while time < 1.0:
        time += rng.expovariate(mean)
        count += 1
    return count


def poisson_share(count: int, mean: float) -> float:
    return math.exp(-mean) * mean**count / math.factorial(count)


def select(words: int, ratio: float, mean: float, utterances: int) -> Any:
    drawn = thresholds(
        Interleaving(rule="poisson", span_mean=mean),
        seed=3,
        keys=np.arange(utterances, dtype=np.uint64),
        epochs=np.zeros(utterances, np.int64),
        word_counts=np.full(utterances, words),
        streams=[0],
    )
    return drawn.reshape(utterances, words) <= ratio


@pytest.mark.parametrize("words,ratio,mean", [(5, 0.4, 1.0), (4, 0.25, 3.0), (5, 0.1, 0.5)])
def test_selects_sets_of_words_as_often_as_algorithm_1(
    words: int, ratio: float, mean: float
) -> None:
    """Compare how often every subset of the words is selected: a two-sample chi-square test."""
    draws = 20_000
    rng = random.Random(5)
    weights = 2 ** np.arange(words)
    expected = np.array([algorithm_1(words, ratio, mean, rng) for _ in range(draws)]) @ weights
    found = select(words, ratio, mean, draws) @ weights
    a, b = (np.bincount(subsets, minlength=2**words) for subsets in (expected, found))
    seen = a + b > 0
    chi_square = float(np.sum((a - b)[seen] ** 2 / (a + b)[seen]))
    freedom = int(seen.sum()) - 1
    # Fisher's approximation: close to normal with unit deviation.
    assert math.sqrt(2 * chi_square) - math.sqrt(2 * freedom - 1) < 3.5


@pytest.mark.parametrize(
    "words,mean,fractions",
    [
        (6, 3, [1.0, 0.89, 0.89, 0.78, 0.78, 0.66, 0.55, 0.55, 0.47]),
        (10, 3, [1.0, 0.93, 0.86, 0.78, 0.69, 0.61, 0.52, 0.44, 0.37]),
        (15, 1, [0.94, 0.88, 0.75, 0.69, 0.56, 0.50, 0.37, 0.31, 0.18]),
        (15, 10, [0.96, 0.92, 0.84, 0.80, 0.71, 0.67, 0.59, 0.56, 0.50]),
    ],
)
def test_achieves_what_the_papers_rule_achieves(
    words: int, mean: float, fractions: list[float]
) -> None:
    """Shares of text words at nominal 0.9, 0.8 … 0.1, computed apart from this package."""
    achieved = [select(words, level / 10, mean, 20_000).mean() for level in range(9, 0, -1)]
    assert achieved == pytest.approx(fractions, abs=0.015)
    # At 0.1 one span is all there is, so its mean length is known: min(1 + l, words to the end).
    if words < 10:
        at_least = 1.0 - np.cumsum([0.0] + [poisson_share(n, mean) for n in range(words - 1)])
        assert achieved[-1] == pytest.approx(np.cumsum(at_least).sum() / words**2, abs=0.005)


def test_a_spanless_poisson_takes_one_word_a_turn() -> None:
    """With l = 0 the thresholds of an utterance are 0/N, 1/N … (N-1)/N in a random order."""
    drawn = thresholds(
        Interleaving(rule="poisson", span_mean=0.0),
        seed=1,
        keys=np.arange(3, dtype=np.uint64),
        epochs=np.zeros(3, np.int64),
        word_counts=np.array([4, 0, 7]),
        streams=[1],
    )
    assert sorted(drawn[:4].tolist()) == [n / 4 for n in range(4)]
    assert sorted(drawn[4:].tolist()) == [n / 7 for n in range(7)]


def test_empty_batches_and_sides_are_legal() -> None:
    empty = build([], 0.5, Interleaving())
    assert empty.tokens.size == 0 and empty.offsets.tolist() == [0]
    assert empty.achieved_words == empty.achieved_tokens == 0.0
    for rule in RULES:
        silent = build([([], []), ([([5], [6])], [])], 1.0, Interleaving(rule=rule))
        assert split(silent)[0] == ([BOS, SEPARATOR, EOS], [-100, -100, EOS])
        assert split(silent)[1][0] == [BOS, 5, SEPARATOR, EOS]


def test_utterance_keys_are_stable() -> None:
    for name in ("es-train-000001", "común-ñ", ""):
        digest = hashlib.blake2b(name.encode("utf-8"), digest_size=8).digest()
        assert utterance_key(name) == int.from_bytes(digest, "little") < 2**64
    assert utterance_key("es-train-000001") == 9695341491301232928


@pytest.mark.parametrize(
    "field,value",
    [
        ("rule", "spans"),
        ("side", "left"),
        ("format", "cot"),
        ("replacement", "unk"),
        ("alignment", "ctc"),
        ("span_mean", -1.0),
        ("span_mean", 101),
        ("span_mean", float("nan")),
        ("modality_tokens", "no"),
    ],
)
def test_refuses_unknown_interleavings(field: str, value: Any) -> None:
    with pytest.raises(ValueError, match=field):
        Interleaving(**{field: value})


def test_refuses_broken_batches() -> None:
    utterance: Utterance = ([([5], [6, 7])], [([8], [9])])
    for ratio in (-0.1, 1.1, float("nan")):
        with pytest.raises(ValueError, match=r"give a share of words in \[0, 1\]"):
            build([utterance], ratio, Interleaving())
    with pytest.raises(ValueError, match="source 1, target 1, keys 2, epochs 1"):
        build([utterance], 0.5, Interleaving(), names=["a", "b"])
    side = vars(Side.from_words([utterance[0], utterance[0]]))
    broken = [
        ({"text_offsets": np.array([0, 1])}, "text_offsets has 1 words, unit_offsets 2"),
        ({"units": np.zeros(5, np.int32)}, "unit_offsets must start at 0 and end at 5"),
        ({"word_offsets": np.array([1, 2])}, "word_offsets must start at 0 and end at 2"),
        ({"word_offsets": np.array([], np.int64)}, "word_offsets must start at 0"),
        ({"text_offsets": np.array([0, 3, 2])}, "text_offsets falls; offsets must be in order"),
    ]
    for change, message in broken:
        with pytest.raises(ValueError, match=message):
            Side(**{**side, **change})


# Sequences that must never change.


def golden_batch() -> tuple[list[Utterance], list[str], list[int]]:
    """Make three utterances; the second one has a word without units and no target."""
    rng = random.Random(2506)

    def words(count: int) -> list[Word]:
        return [
            (
                [rng.randrange(10, 60) for _ in range(rng.randint(1, 2))],
                [rng.randrange(100, 400) for _ in range(rng.randint(2, 5))],
            )
            for _ in range(count)
        ]

    batch = [(words(7), words(6)), ([*words(3), ([10], [])], []), (words(1), words(12))]
    return batch, ["es-train-000001", "es-train-000002", "fr-train-000001"], [0, 3, 1]


LATER = {"replacement": "text", "alignment": "words", "modality_tokens": False}


def golden_cases() -> list[dict[str, Any]]:
    batch, names, epochs = golden_batch()
    cases = []
    for interleaving in (
        Interleaving(rule="independent"),
        Interleaving(rule="poisson", span_mean=3.0),
        Interleaving(rule="poisson", span_mean=1.0, format="chain_of_thought"),
        Interleaving(rule="poisson", span_mean=3.0, side="target"),
        Interleaving(rule="poisson", replacement="mask"),
        Interleaving(rule="independent", alignment="equal"),
        Interleaving(rule="poisson", format="chain_of_thought", modality_tokens=True),
    ):
        for ratio in (0.0, 0.3, 0.7):
            made = build(batch, ratio, interleaving, names=names, epochs=epochs, seed=1)
            case = {
                # Options that came later are written only where they are used.
                "interleaving": {
                    name: value
                    for name, value in vars(interleaving).items()
                    if LATER.get(name) != value
                },
                "ratio": ratio,
                "sequences": [tokens for tokens, _ in split(made)],
                "predicted_from": [labels.count(-100) for _, labels in split(made)],
                "achieved": [made.words_text, made.words_total, made.tokens_text],
            }
            cases.append(case)
    return cases


@pytest.mark.parametrize("rule", ["independent", "poisson"])
def test_sides_may_have_ratios_of_their_own(rule: Any) -> None:
    batch, names, epochs = golden_batch()

    def streams(ratio: Any) -> list[tuple[list[int], list[int]]]:
        made = split(build(batch, ratio, Interleaving(rule=rule), names=names, epochs=epochs))
        return [
            ([t for t, label in zip(*one, strict=True) if label == IGNORED],
             [t for t, label in zip(*one, strict=True) if label != IGNORED])
            for one in made
        ]  # fmt: skip

    low, high, apart = streams(0.2), streams(0.8), streams((0.2, 0.8))
    assert apart == [(a[0], b[1]) for a, b in zip(low, high, strict=True)]
    assert apart not in (low, high)
    assert streams((0.2, 0.2)) == low
    for wrong in ((0.2, 1.1), (-0.1, 0.0), (float("nan"), 0.5)):
        with pytest.raises(ValueError, match="share of words"):
            streams(wrong)


def test_golden_sequences() -> None:
    kept = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert golden_cases() == kept["cases"]


def main() -> None:
    """Write the golden sequences, one case a line."""
    lines = ",\n".join(json.dumps(case) for case in golden_cases())
    GOLDEN.parent.mkdir(exist_ok=True)
    GOLDEN.write_text(f'{{"cases": [\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main()
