"""The recogniser of a protocol of ASR-BLEU, by name."""

from __future__ import annotations

from pathlib import Path

from raystt.config import EvaluationConfig
from raystt.corpus.card import Card
from raystt.recognition.protocols import protocol
from raystt.recognition.recognizer import Recognizer, RecognizerError
from raystt.recognition.sphinx import PocketSphinx
from raystt.recognition.wav2vec2 import Wav2Vec2Recognizer
from raystt.recognition.whisper import WhisperRecognizer

__all__ = ["PocketSphinx", "Recognizer", "RecognizerError", "load_recognizer"]


def load_recognizer(
    name: str, config: EvaluationConfig, card: Card, corpus: Path, device: str = "cpu"
) -> Recognizer:
    """Load the recogniser of a protocol.

    Args:
        name: The protocol, see `raystt.recognition.protocols.PROTOCOLS`.
        config: Its `asr_model` replaces the protocol's model.
        card: The corpus card; it knows the target language, and the recogniser of the corpus.
        corpus: Directory of the corpus.
        device: Torch device of a pretrained recogniser.

    Raises:
        ProtocolError: There is no such protocol.
        RecognizerError: The protocol does not fit the corpus, or a package or file is missing.
    """
    wanted = protocol(name)
    language = card.target_language
    if wanted.model is None:
        if config.asr_model is not None:
            raise RecognizerError(
                f"evaluation.asr_model: {config.asr_model!r} is given, but `asr: {name}` is fitted "
                "to the corpus; remove it, or set `asr: whisper`"
            )
        if card.asr is None:
            raise RecognizerError(
                f"{corpus}: the corpus holds no recogniser for `evaluation.asr: {name}`; set it to "
                "whisper or fairseq-wav2vec2"
            )
        return PocketSphinx.load(corpus / card.asr.path)
    model = config.asr_model or wanted.model
    if name == "whisper":
        return WhisperRecognizer.load(model, language=language, device=device)
    if config.asr_model is None and language != "en":
        raise RecognizerError(
            f"evaluation.asr: the model of {name} hears English, the corpus speaks {language!r}; "
            "name one of that language in `evaluation.asr_model`"
        )
    return Wav2Vec2Recognizer.load(model, device=device)
