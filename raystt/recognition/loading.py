"""The recogniser of a protocol of ASR-BLEU, by name."""

from __future__ import annotations

from pathlib import Path

from raystt.recognition.protocols import protocol
from raystt.recognition.recognizer import Recognizer, RecognizerError
from raystt.recognition.sphinx import PocketSphinx
from raystt.recognition.wav2vec2 import Wav2Vec2Recognizer
from raystt.recognition.whisper import WhisperRecognizer


def load_recognizer(
    name: str, model: str | None, *, language: str, fitted: Path | None, device: str = "cpu"
) -> Recognizer:
    """Load the recogniser of a protocol.

    Args:
        name: The protocol, see `raystt.recognition.protocols.PROTOCOLS`.
        model: Replaces the protocol's model; None = that one.
        language: What is spoken, an ISO 639-1 code.
        fitted: Directory of the recogniser that was fitted to the corpus; None if there is none.
        device: Torch device of a pretrained recogniser.

    Raises:
        ProtocolError: There is no such protocol.
        RecognizerError: The protocol does not fit the corpus, or a package or file is missing.
    """
    wanted = protocol(name)
    if wanted.model is None:
        if model is not None:
            raise RecognizerError(
                f"evaluation.asr_model: {model!r} is given, but `asr: {name}` is fitted to the "
                "corpus; remove it, or set `asr: whisper`"
            )
        if fitted is None:
            raise RecognizerError(
                f"evaluation.asr: the corpus holds no recogniser for {name!r}; set it to whisper "
                "or fairseq-wav2vec2"
            )
        return PocketSphinx.load(fitted)
    if name == "whisper":
        return WhisperRecognizer.load(model or wanted.model, language=language, device=device)
    if model is None and language != "en":
        raise RecognizerError(
            f"evaluation.asr: the model of {name} hears English, the corpus speaks {language!r}; "
            "name one of that language in `evaluation.asr_model`"
        )
    return Wav2Vec2Recognizer.load(model or wanted.model, device=device)
