"""Protocols of ASR-BLEU: who listens, how its words are rewritten, and whether case counts.

Whisper writes digits, case and punctuation, a CTC recogniser capitals, and references are written
as they are spoken: a score means something only as part of a protocol. Facts of the two published
ones: Futami et al. 2025, section 4.1, with the details of `seamless_communication`; and the script
`asr_bleu` of fairseq, which S2UT, UnitY and StreamSpeech are scored with.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass

from raystt.errors import BadInput


class ProtocolError(BadInput):
    """There is no such protocol; the message names those there are."""


@dataclass(frozen=True)
class AsrProtocol:
    """How speech becomes a score.

    Attributes:
        name: Its name in `evaluation.asr`.
        model: The recogniser of the protocol, pinned; None if it is fitted to the corpus.
        normaliser: What hypotheses **and** references are rewritten with: a name in `NORMALISERS`,
            or `whisper`, which comes with the recogniser.
        lowercase: Whether BLEU is blind to case (`case:lc`) or not (`case:mixed`).
    """

    name: str
    model: str | None
    normaliser: str
    lowercase: bool


PROTOCOLS: dict[str, AsrProtocol] = {
    protocol.name: protocol
    for protocol in (
        AsrProtocol("pocketsphinx", None, "plain", True),
        AsrProtocol(
            "whisper",
            "openai/whisper-large-v3@06f233fe06e710322aca913c1bc4249a0d71fce1",
            "whisper",
            True,
        ),
        # The transformers form of the checkpoint wav2vec_vox_960h_pl.pt that the script loads. It
        # lower-cases both sides and leaves the references' punctuation, if there is any.
        AsrProtocol(
            "fairseq-wav2vec2",
            "facebook/wav2vec2-large-960h-lv60-self@54074b1c16f4de6a5ad59affb4caa8f2ea03a119",
            "lower",
            False,
        ),
    )
}


def protocol(name: str) -> AsrProtocol:
    """Look a protocol up.

    Raises:
        ProtocolError: There is none of that name.
    """
    if name not in PROTOCOLS:
        raise ProtocolError(f"protocol {name!r} is unknown; take one of: {', '.join(PROTOCOLS)}")
    return PROTOCOLS[name]


def _plain(text: str) -> str:
    # An apostrophe binds (don't, l'eau), other punctuation divides (well-known, yes/no).
    text = re.sub(r"['’ʼ]", "", unicodedata.normalize("NFC", text).lower())
    kept = (" " if unicodedata.category(char)[0] in "PS" else char for char in text)
    return " ".join("".join(kept).split())


def _lower(text: str) -> str:
    return text.strip().lower()


NORMALISERS: dict[str, Callable[[str], str]] = {"plain": _plain, "lower": _lower}


def normalise(text: str, name: str = "plain") -> str:
    """Rewrite a hypothesis or a reference so that only its words count.

    Args:
        text: What a recogniser wrote, or a reference.
        name: `plain` lower-cases, drops punctuation and symbols and collapses white space; `lower`
            only lower-cases.

    Returns:
        The text to score.

    Raises:
        ValueError: There is no such normaliser here; that of Whisper comes with its recogniser.
    """
    if name not in NORMALISERS:
        raise ValueError(f"normaliser {name!r} is unknown; give one of {', '.join(NORMALISERS)}")
    return NORMALISERS[name](text)
