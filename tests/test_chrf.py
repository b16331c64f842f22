"""chrF against sacrebleu itself."""

from __future__ import annotations

import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from raystt import chrf

relaxed = settings(deadline=None, max_examples=60)
lines = st.lists(
    st.sampled_from(["the", "Cat", "sees", "don't", "\u00e9t\u00e9", "3.5", ".", "\u00bf"]),
    max_size=10,
).map(" ".join)


@relaxed
@given(
    st.lists(st.tuples(lines | st.text(max_size=20), lines), min_size=1, max_size=8), st.booleans()
)
def test_merged_statistics_score_as_sacrebleu_scores_the_merged_set(
    pairs: list[tuple[str, str]], lowercase: bool
) -> None:
    hypotheses, references = [list(side) for side in zip(*pairs, strict=True)]
    parts = [chrf.statistics([h], [r], lowercase=lowercase) for h, r in pairs]
    merged = np.concatenate(parts)
    theirs = sacrebleu.CHRF(lowercase=lowercase).corpus_score(hypotheses, [references]).score
    assert chrf.point(merged) == theirs
    assert np.array_equal(merged, chrf.statistics(hypotheses, references, lowercase=lowercase))


def test_case_counts_where_it_should() -> None:
    hypothesis, reference = ["The CAT sees"], ["the cat sees"]
    assert chrf.point(chrf.statistics(hypothesis, reference)) == 100.0
    mixed = chrf.point(chrf.statistics(hypothesis, reference, lowercase=False))
    assert mixed == sacrebleu.corpus_chrf(hypothesis, [reference]).score < 100.0


def test_empty_texts() -> None:
    stats = chrf.statistics(["", "a cat"], ["a cat", ""])
    assert stats.dtype == np.int64 and stats.shape == (2, chrf.COLUMNS)
    assert chrf.point(stats) == 0.0
    assert chrf.statistics([], []).shape == (0, chrf.COLUMNS)


def test_signature_is_sacrebleus() -> None:
    assert chrf.signature().startswith("nrefs:1|case:lc|eff:yes|nc:6|nw:0|space:no|version:")
    assert "case:mixed" in chrf.signature(lowercase=False)


def test_refuses() -> None:
    with pytest.raises(ValueError, match="2 hypotheses for 1 references; give one"):
        chrf.statistics(["a", "b"], ["a"])
    with pytest.raises(ValueError, match=r"give \[sentences, 18\]"):
        chrf.point(np.zeros((0, 18), np.int64))
    with pytest.raises(ValueError, match=r"have shape \(3, 10\)"):
        chrf.point(np.zeros((3, 10), np.int64))
