"""Protocols of ASR-BLEU and their normalisers."""

from __future__ import annotations

import re
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raystt.config import EvaluationConfig
from raystt.recognition.protocols import NORMALISERS, PROTOCOLS, ProtocolError, normalise, protocol

relaxed = settings(deadline=None, max_examples=50)


def test_what_the_published_protocols_are() -> None:
    whisper, fairseq = protocol("whisper"), protocol("fairseq-wav2vec2")
    assert (whisper.normaliser, whisper.lowercase) == ("whisper", True)
    assert (fairseq.normaliser, fairseq.lowercase) == ("lower", False)
    for one, name in ((whisper, "openai/whisper-large-v3"),
                      (fairseq, "facebook/wav2vec2-large-960h-lv60-self")):  # fmt: skip
        assert one.model is not None
        assert re.fullmatch(rf"{name}@[0-9a-f]{{40}}", one.model)
    assert protocol("pocketsphinx").model is None
    with pytest.raises(ProtocolError, match="'kaldi' is unknown; take one of: pocketsphinx, whisp"):
        protocol("kaldi")


def test_a_config_can_name_every_protocol_and_no_other() -> None:
    choices = EvaluationConfig.model_fields["asr"].annotation
    assert set(get_args(choices)) == set(PROTOCOLS)


@pytest.mark.parametrize(
    "text,expected",
    [
        ("  The CAT,\tsees\n it. ", "the cat sees it"),
        ("Don't! l\u2019eau", "dont leau"),
        ("well-known\u2014yes/no", "well known yes no"),
        ("\u00bfQu\u00e9 tal? \u00abe\u0301t\u00e9\u00bb", "qu\u00e9 tal \u00e9t\u00e9"),
        ("3 dogs + $5", "3 dogs 5"),
        ("...", ""),
        ("", ""),
    ],
)
def test_plain_normaliser(text: str, expected: str) -> None:
    assert normalise(text) == expected


def test_the_normaliser_of_fairseq_only_lowers() -> None:
    assert normalise("  DON'T look,  Mr. \u00c9mile! ", "lower") == "don't look,  mr. \u00e9mile!"


def test_the_normaliser_of_whisper_is_not_here() -> None:
    with pytest.raises(ValueError, match="'whisper' is unknown; give one of plain, lower"):
        normalise("a", "whisper")


@relaxed
@given(st.text(max_size=40))
def test_normalisers_settle_at_once(text: str) -> None:
    for name in NORMALISERS:
        once = normalise(text, name)
        assert normalise(once, name) == once
