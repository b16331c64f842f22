"""BLEU and chrF against sacrebleu itself, which is the reference for every number here."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st
from sacrebleu.significance import PairedTest

from raystt.scores import Metric, Statistics, asr_bleu, bleu, chrf, holm

SIGNATURE = bleu().sign(asr="pocketsphinx-5", vocoder="conv", normaliser="plain")
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
sentences = st.lists(
    st.sampled_from([*WORDS, "don't", "\u00e9t\u00e9", "3.5", "Cat", ".", "\u00bf"]), max_size=12
).map(" ".join)


def theirs(name: str, lowercase: bool = True) -> Any:
    """Make a metric of sacrebleu as its users do."""
    if name == "chrf":
        return sacrebleu.CHRF(lowercase=lowercase)
    return sacrebleu.BLEU(lowercase=lowercase, tokenize="13a", smooth_method="exp")


def ours(name: str, lowercase: bool = True) -> Metric:
    return chrf(lowercase=lowercase) if name == "chrf" else bleu(lowercase=lowercase)


both = pytest.mark.parametrize("name", ["bleu", "chrf"])


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


@both
@relaxed
@given(
    st.lists(st.tuples(sentences | st.text(max_size=30), sentences), min_size=1, max_size=12),
    st.booleans(),
)
def test_merged_statistics_score_as_sacrebleu_scores_the_merged_set(
    name: str, pairs: list[tuple[str, str]], lowercase: bool
) -> None:
    hypotheses, references = [list(side) for side in zip(*pairs, strict=True)]
    metric = ours(name, lowercase)
    merged = np.concatenate([metric.statistics([h], [r]) for h, r in pairs])
    expected = theirs(name, lowercase).corpus_score(hypotheses, [references]).score
    assert metric.point(merged) == expected
    assert np.array_equal(merged, metric.statistics(hypotheses, references))


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
    scored = asr_bleu(bleu().statistics(hypotheses, references), signature=SIGNATURE, resamples=10)
    assert scored.asr_bleu == pytest.approx(expected, abs=1e-3)
    assert scored.asr_bleu == theirs("bleu").corpus_score(hypotheses, [references]).score
    assert (scored.signature, scored.sentences) == (SIGNATURE, len(hypotheses))


@both
def test_case_counts_where_it_should(name: str) -> None:
    """The fairseq protocol is `corpus_bleu` as it comes."""
    pair = ["The Cat SEES a dog"], ["the cat sees a dog"]
    assert ours(name).point(ours(name).statistics(*pair)) == pytest.approx(100.0)
    mixed = ours(name, lowercase=False)
    default = {"bleu": sacrebleu.corpus_bleu, "chrf": sacrebleu.corpus_chrf}[name]
    assert mixed.point(mixed.statistics(*pair)) == default(pair[0], [pair[1]]).score < 80.0


@both
def test_statistics_are_sacrebleus(name: str) -> None:
    hypotheses, references = corpus(50, 0.4, seed=1)
    hypotheses[7] = ""
    metric = ours(name)
    stats = metric.statistics(hypotheses, references)
    assert stats.dtype == np.int64 and stats.shape == (50, metric.columns)
    assert stats.tolist() == theirs(name)._extract_corpus_statistics(hypotheses, [references])
    assert metric.statistics([], []).shape == (0, metric.columns)
    assert "nrefs:1" in metric.signature


def test_what_bleu_counts() -> None:
    stats = bleu().statistics(["the cat sees a red dog", ""], ["the cat sees a dog", "a dog"])
    assert stats.tolist() == [[6, 5, 5, 3, 2, 1, 6, 5, 4, 3], [0, 2, 0, 0, 0, 0, 0, 0, 0, 0]]


def test_chrf_of_empty_texts() -> None:
    stats = chrf().statistics(["", "a cat"], ["a cat", ""])
    assert stats.shape == (2, 18)
    assert chrf().point(stats) == 0.0


@both
def test_every_resample_is_scored_as_sacrebleu_scores_it(name: str) -> None:
    """With one resample the interval is that resample's score."""
    for errors in (0.1, 0.6, 0.95):
        hypotheses, references = corpus(6, errors, seed=3)
        hypotheses[0] = ""
        stats = ours(name).statistics(hypotheses, references)
        for seed in range(25):
            drawn = np.random.default_rng(seed).multinomial(6, np.full(6, 1 / 6))
            chosen = [i for i, times in enumerate(drawn) for _ in range(times)]
            expected = theirs(name).corpus_score(
                [hypotheses[i] for i in chosen], [[references[i] for i in chosen]]
            )
            _, (low, high) = ours(name).score(stats, resamples=1, seed=seed)
            assert low == high == pytest.approx(expected.score, rel=1e-12, abs=1e-12)


@both
def test_interval_is_about_sacrebleus_own_bootstrap(name: str) -> None:
    hypotheses, references = corpus(200, 0.35, seed=5)
    point, interval = ours(name).score(ours(name).statistics(hypotheses, references))
    expected = theirs(name).corpus_score(hypotheses, [references], n_bootstrap=1000)
    assert interval[0] < point < interval[1]
    assert (interval[1] - interval[0]) / 2 == pytest.approx(expected._ci, rel=0.1)
    assert sum(interval) / 2 == pytest.approx(expected._mean, abs=0.3)


def test_interval_is_reproducible() -> None:
    stats = bleu().statistics(*corpus(40, 0.4, seed=6))
    first = bleu().score(stats, resamples=300, seed=4)
    assert bleu().score(stats, resamples=300, seed=4) == first
    assert bleu().score(stats, resamples=300, seed=5)[1] != first[1]
    whole = asr_bleu(stats, signature=SIGNATURE, resamples=300, seed=4)
    assert (whole.asr_bleu, whole.ci, whole.sentences) == (*first, 40)


def test_signature_says_everything() -> None:
    metric = theirs("bleu")
    metric.corpus_score(["a"], [["a"]])
    own = str(metric.get_signature())
    assert own.startswith("nrefs:1|case:lc|eff:no|tok:13a|smooth:exp|version:")
    assert f"{own}|asr:pocketsphinx-5|vocoder:conv|norm:plain" == SIGNATURE
    mixed = bleu(lowercase=False)
    signed = mixed.sign(asr="a", vocoder="b", normaliser="lower")
    assert signed == f"{mixed.signature}|asr:a|vocoder:b|norm:lower"
    assert signed.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")
    assert chrf().signature.startswith("nrefs:1|case:lc|eff:yes|nc:6|nw:0|space:no|version:")
    assert "case:mixed" in chrf(lowercase=False).signature
    with pytest.raises(ValueError, match="vocoder is empty"):
        bleu().sign(asr="a", vocoder="", normaliser="plain")


@both
def test_comparison_agrees_with_sacrebleus(name: str) -> None:
    good, references = corpus(150, 0.35, seed=8)
    bad = [" ".join(line.split()[:-1]) if n % 3 == 0 else line for n, line in enumerate(good)]
    metric = ours(name)
    difference, (low, high), p_value = metric.compare(
        metric.statistics(good, references), metric.statistics(bad, references), resamples=2000
    )
    test = PairedTest(
        [("bad", bad), ("good", good)],
        {name: theirs(name)},
        [references],
        test_type="bs",
        n_samples=2000,
        n_jobs=1,
    )
    expected = test()[1][{"bleu": "BLEU", "chrf": "chrF2"}[name]]
    assert difference == pytest.approx(expected[1].score - expected[0].score, abs=1e-9)
    assert low < difference < high
    assert p_value == pytest.approx(expected[1].p_value, abs=0.02)


@both
def test_comparison_is_sane(name: str) -> None:
    hypotheses, references = corpus(120, 0.4, seed=9)
    other, same = corpus(120, 0.41, seed=9)
    assert same == references
    better, _ = corpus(120, 0.1, seed=9)
    metric = ours(name)
    a, b, c = (metric.statistics(lines, references) for lines in (hypotheses, other, better))
    assert metric.compare(a, a) == (0.0, (0.0, 0.0), 1.0)
    forth, back = metric.compare(c, a), metric.compare(a, c)
    assert forth[0] == -back[0] > 0
    assert forth[1] == pytest.approx((-back[1][1], -back[1][0]))
    assert forth[2] == back[2] == pytest.approx(1 / 1001)
    close = metric.compare(a, b)
    # The interval of percentiles and the p-value say the same of what is not close to the border.
    assert (close[1][0] < 0 < close[1][1]) == (close[2] > 0.05)


@both
def test_refuses(name: str) -> None:
    metric = ours(name)
    stats = metric.statistics(["a b"], ["a b"])
    with pytest.raises(ValueError, match="2 hypotheses for 1 references; give one"):
        metric.statistics(["a", "b"], ["a"])
    with pytest.raises(ValueError, match="no sentences to score"):
        metric.point(metric.statistics([], []))
    with pytest.raises(ValueError, match=rf"\(1, 4\); give \[sentences, {metric.columns}\]"):
        metric.score(stats[:, :4])
    with pytest.raises(ValueError, match="resamples is 0; give at least 1"):
        metric.score(stats, resamples=0)
    with pytest.raises(ValueError, match="different sentences"):
        metric.compare(stats, metric.statistics(["a b"], ["a b c"]))


def drawn(right: float, seed: int) -> Statistics:
    """Return the statistics of 80 sentences of which a share of the words is right."""
    rng, words = np.random.default_rng(seed), ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"]
    said = [" ".join(w if rng.random() < right else "x" for w in words) for _ in range(80)]
    return bleu().statistics(said, [" ".join(words)] * 80)


def test_runs_are_compared_over_seeds_and_sentences() -> None:
    a, b = [drawn(0.8, seed) for seed in (1, 2, 3)], [drawn(0.7, seed) for seed in (4, 5, 6)]
    difference, (low, high), p = bleu().compare_runs(a, b)
    assert difference == pytest.approx(
        np.mean([bleu().point(x) - bleu().point(y) for x, y in zip(a, b, strict=True)])
    )
    assert low < difference < high and p < 0.02
    mean, (lowest, highest) = bleu().mean_of_runs(a)
    assert lowest < mean < highest and mean == pytest.approx(np.mean([bleu().point(x) for x in a]))


def test_equal_systems_do_not_differ() -> None:
    a = [drawn(0.8, seed) for seed in (1, 2, 3)]
    assert bleu().compare_runs(a, a) == (0.0, (0.0, 0.0), 1.0)
    b = [drawn(0.2, seed) for seed in (1, 2, 3)]
    assert bleu().compare_runs(a, b, resamples=1)[2] == 1.0  # one resample has no spread
    assert bleu().compare(a[0], a[0]) == (0.0, (0.0, 0.0), 1.0)


def test_seeds_that_differ_widen_the_interval() -> None:
    alike, apart = [drawn(0.7, 1), drawn(0.7, 2)], [drawn(0.5, 1), drawn(0.9, 2)]

    def spread(runs: list[Statistics]) -> float:
        _, (low, high), _ = bleu().compare_runs(runs, [drawn(0.7, 3)] * 2, resamples=2000)
        return (high - low) / 3.92

    of_seeds = np.std([bleu().point(x) for x in apart], ddof=1) / np.sqrt(2)
    assert spread(apart) > 3 * spread(alike)
    # Of two seeds it is Student's with one degree of freedom, 12.7 standard errors either way.
    assert 10 < 1.96 * spread(apart) / of_seeds < 13


def test_what_seeds_make_alone_is_seldom_called_a_difference() -> None:
    """Two systems that are one, whose seeds do more than their sentences: 5 % should differ."""
    rng, shown = np.random.default_rng(0), 0
    for _ in range(100):
        a, b = (
            [drawn(rng.normal(0.7, 0.1), int(rng.integers(1 << 30))) for _ in range(2)]
            for _ in "ab"
        )
        shown += bleu().compare_runs(a, b, resamples=40)[2] < 0.05
    assert 1 <= shown <= 9  # with normal tails 22; by the two differences alone 11


def test_runs_of_other_sentences_do_not_compare() -> None:
    with pytest.raises(ValueError, match="different sentences"):
        bleu().compare_runs([drawn(0.7, 1)], [drawn(0.7, 2)[:40]])
    with pytest.raises(ValueError, match="2 seeds against 1"):
        bleu().compare_runs([drawn(0.7, 1)] * 2, [drawn(0.7, 2)])


def test_holm_adjusts_for_how_many_there_are() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []
