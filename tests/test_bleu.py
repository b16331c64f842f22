"""ASR-BLEU against sacrebleu itself, which is the reference for every number here."""

from __future__ import annotations

import random

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.significance import PairedTest

from raystt.bleu import (
    paired_bootstrap,
    point,
    score,
    signature,
    statistics,
    text_signature,
)

SIGNATURE = signature(asr="pocketsphinx-5", vocoder="conv", normaliser="plain")
WORDS = [
    "the",
    "cat",
    "dog",
    "sees",
    "three",
    "red",
    "blue",
    "houses",
    "in",
    "a",
    "garden",
    "today",
]
# A busy machine must not fail a test.
relaxed = settings(deadline=None, max_examples=50)
sentences = st.lists(st.sampled_from([*WORDS, "don't", "3.5", "Cat", "."]), max_size=12).map(
    " ".join
)


def bleu() -> sacrebleu.BLEU:
    return sacrebleu.BLEU(lowercase=True, tokenize="13a", smooth_method="exp")


def corpus(size: int, errors: float, seed: int) -> tuple[list[str], list[str]]:
    """Make references and hypotheses in which a share of the words is wrong."""
    rng = random.Random(seed)
    references = [rng.choices(WORDS, k=rng.randint(4, 10)) for _ in range(size)]
    wrong = random.Random(seed + 1)
    hypotheses = [
        [wrong.choice(WORDS) if wrong.random() < errors else word for word in reference]
        for reference in references
    ]
    return [" ".join(line) for line in hypotheses], [" ".join(line) for line in references]


@relaxed
@given(st.lists(st.tuples(sentences, sentences), min_size=1, max_size=12))
def test_merged_statistics_score_as_sacrebleu_scores_the_merged_set(
    pairs: list[tuple[str, str]],
) -> None:
    hypotheses, references = [list(side) for side in zip(*pairs, strict=True)]
    parts = [statistics([h], [r]) for h, r in pairs]
    merged = score(np.concatenate(parts), signature=SIGNATURE, resamples=2)
    assert merged.asr_bleu == bleu().corpus_score(hypotheses, [references]).score
    assert merged.sentences == len(pairs)
    assert np.array_equal(np.concatenate(parts), statistics(hypotheses, references))


@pytest.mark.parametrize(
    "hypotheses,references,expected",
    [
        (["the cat sees a dog"], ["the cat sees a dog"], 100.0),
        (["The Cat SEES a dog"], ["the cat sees a dog"], 100.0),
        ([""], ["the cat sees a dog"], 0.0),
        ([""], [""], 0.0),
        (["the cat"], ["the cat"], 0.0),  # no 4-gram: undefined, 0 by sacrebleu
        (["", "the cat sees a dog"], ["a dog", "the cat sees a dog"], 67.032),  # e^(1 - 7/5)
        (["red red red red red"], ["the cat sees a dog"], 0.0),
    ],
)
def test_table(hypotheses: list[str], references: list[str], expected: float) -> None:
    scored = score(statistics(hypotheses, references), signature=SIGNATURE, resamples=10)
    assert scored.asr_bleu == pytest.approx(expected, abs=1e-3)
    assert scored.asr_bleu == bleu().corpus_score(hypotheses, [references]).score


@relaxed
@given(st.lists(st.tuples(sentences | st.text(max_size=30), sentences), min_size=1, max_size=8))
def test_case_mixed_is_sacrebleus_default(pairs: list[tuple[str, str]]) -> None:
    """The fairseq protocol is `corpus_bleu` as it comes."""
    hypotheses, references = [list(side) for side in zip(*pairs, strict=True)]
    parts = [statistics([h], [r], lowercase=False) for h, r in pairs]
    assert point(np.concatenate(parts)) == sacrebleu.corpus_bleu(hypotheses, [references]).score


def test_case_counts_where_it_should() -> None:
    hypothesis, reference = ["The Cat SEES a dog"], ["the cat sees a dog"]
    assert point(statistics(hypothesis, reference)) == pytest.approx(100.0)
    mixed = point(statistics(hypothesis, reference, lowercase=False))
    assert mixed == sacrebleu.corpus_bleu(hypothesis, [reference]).score < 50.0


def test_statistics_are_sacrebleus() -> None:
    hypotheses, references = corpus(50, 0.4, seed=1)
    hypotheses[7] = ""
    stats = statistics(hypotheses, references)
    assert stats.dtype == np.int64 and stats.shape == (50, 10)
    assert stats.tolist() == bleu()._extract_corpus_statistics(hypotheses, [references])
    assert stats[7].tolist() == [0, len(references[7].split()), 0, 0, 0, 0, 0, 0, 0, 0]
    assert statistics([], []).shape == (0, 10)


def test_every_resample_is_scored_as_sacrebleu_scores_it() -> None:
    """With one resample the interval is that resample's score."""
    for errors in (0.1, 0.6, 0.95):
        hypotheses, references = corpus(6, errors, seed=3)
        hypotheses[0] = ""
        stats = statistics(hypotheses, references)
        for seed in range(25):
            drawn = np.random.default_rng(seed).multinomial(6, np.full(6, 1 / 6))
            expected = bleu()._compute_score_from_stats((drawn @ stats).tolist()).score
            low, high = score(stats, signature=SIGNATURE, resamples=1, seed=seed).ci
            assert low == high == pytest.approx(expected, rel=1e-12, abs=1e-12)


def test_interval_is_about_sacrebleus_own_bootstrap() -> None:
    hypotheses, references = corpus(200, 0.35, seed=5)
    ours = score(statistics(hypotheses, references), signature=SIGNATURE, resamples=1000)
    theirs = bleu().corpus_score(hypotheses, [references], n_bootstrap=1000)
    assert ours.ci[0] < ours.asr_bleu < ours.ci[1]
    assert (ours.ci[1] - ours.ci[0]) / 2 == pytest.approx(theirs._ci, rel=0.1)
    assert sum(ours.ci) / 2 == pytest.approx(theirs._mean, abs=0.3)


def test_interval_is_reproducible_and_does_not_depend_on_chunks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stats = statistics(*corpus(40, 0.4, seed=6))
    first = score(stats, signature=SIGNATURE, resamples=300, seed=4)
    monkeypatch.setattr("raystt.bleu._CHUNK", 40 * 7)
    assert score(stats, signature=SIGNATURE, resamples=300, seed=4) == first
    assert score(stats, signature=SIGNATURE, resamples=300, seed=5).ci != first.ci


def test_signature_says_everything() -> None:
    metric = bleu()
    metric.corpus_score(["a"], [["a"]])
    own = str(metric.get_signature())
    assert own.startswith("nrefs:1|case:lc|eff:no|tok:13a|smooth:exp|version:")
    assert f"{own}|asr:pocketsphinx-5|vocoder:conv|norm:plain" == SIGNATURE
    assert score(statistics(["a"], ["a"]), signature=SIGNATURE, resamples=1).signature == SIGNATURE
    mixed = signature(asr="a", vocoder="b", normaliser="lower", lowercase=False)
    assert mixed == f"{text_signature(lowercase=False)}|asr:a|vocoder:b|norm:lower"
    assert mixed.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    with pytest.raises(ValueError, match="vocoder is empty"):
        signature(asr="a", vocoder="", normaliser="plain")


def test_paired_bootstrap_agrees_with_sacrebleus() -> None:
    good, references = corpus(150, 0.35, seed=8)
    bad = [" ".join(line.split()[:-1]) if n % 3 == 0 else line for n, line in enumerate(good)]
    difference, (low, high), p_value = paired_bootstrap(
        statistics(good, references), statistics(bad, references), resamples=2000
    )
    test = PairedTest(
        [("bad", bad), ("good", good)],
        {"BLEU": bleu()},
        [references],
        test_type="bs",
        n_samples=2000,
        n_jobs=1,
    )
    theirs = test()[1]["BLEU"]
    assert difference == pytest.approx(theirs[1].score - theirs[0].score, abs=1e-9)
    assert low < difference < high
    assert p_value == pytest.approx(theirs[1].p_value, abs=0.02)


def test_paired_bootstrap_is_sane() -> None:
    hypotheses, references = corpus(120, 0.4, seed=9)
    other, same = corpus(120, 0.41, seed=9)
    assert same == references
    better, _ = corpus(120, 0.1, seed=9)
    a, b, c = (statistics(lines, references) for lines in (hypotheses, other, better))
    assert paired_bootstrap(a, a) == (0.0, (0.0, 0.0), pytest.approx(1 / 1001))
    forth, back = paired_bootstrap(c, a), paired_bootstrap(a, c)
    assert forth[0] == -back[0] > 0
    assert forth[1] == pytest.approx((-back[1][1], -back[1][0]))
    assert forth[2] == back[2] == pytest.approx(1 / 1001)
    close = paired_bootstrap(a, b)
    assert close[1][0] < 0 < close[1][1] or close[2] < 0.05


def test_refuses() -> None:
    stats = statistics(["a b"], ["a b"])
    with pytest.raises(ValueError, match="2 hypotheses for 1 references; give one"):
        statistics(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="no sentences to score"):
        score(statistics([], []), signature=SIGNATURE)
    with pytest.raises(ValueError, match=r"give \[sentences, 10\]"):
        score(stats[:, :4], signature=SIGNATURE)
    with pytest.raises(ValueError, match="resamples is 0; give at least 1"):
        score(stats, signature=SIGNATURE, resamples=0)
    with pytest.raises(ValueError, match="different sentences"):
        paired_bootstrap(stats, statistics(["a b"], ["a b c"]))
