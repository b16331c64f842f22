"""The recogniser of fairseq's ASR-BLEU: wav2vec 2.0 with CTC, greedy, without a language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from raystt.pretrained import pinned
from raystt.protocols import PROTOCOLS, AsrProtocol, normalise
from raystt.speech import SAMPLE_RATE
from raystt.speech.recognizer import RecognizerError, audible, model_name


class Wav2Vec2Recognizer:
    """A CTC model that transcribes one utterance at a time.

    One at a time, as fairseq's script: in a batch, the group norm of the smaller models sees the
    padding, and a text would depend on the others of its batch.
    """

    protocol: ClassVar[AsrProtocol] = PROTOCOLS["fairseq-wav2vec2"]
    normaliser: ClassVar[str] = protocol.normaliser

    def __init__(self, model: Any, processor: Any, signature: str) -> None:
        """Wrap a `Wav2Vec2ForCTC` and its `Wav2Vec2Processor`; use `load` instead."""
        self._model = model
        self._processor = processor
        self._signature = signature
        names = processor.tokenizer
        # No text: <s>, </s> and <unk>. The blank and the border of words are not among them.
        letters = {names.pad_token_id, names.word_delimiter_token_id}
        self._unwritten = sorted(set(names.all_special_ids) - letters)

    @classmethod
    def load(cls, model: str, *, device: str = "cpu") -> Wav2Vec2Recognizer:
        """Load a model and its processor.

        Args:
            model: A directory, NAME or NAME@REVISION.
            device: Torch device.

        Raises:
            RecognizerError: It cannot be loaded, or hears another rate.
        """
        from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor

        name, revision = pinned(model)
        try:
            processor = Wav2Vec2Processor.from_pretrained(name, revision=revision)
            # fp32, the only precision of the script; the models are small.
            loaded = Wav2Vec2ForCTC.from_pretrained(name, revision=revision, dtype=torch.float32)
        except (OSError, ValueError) as error:
            raise RecognizerError(
                f"{model}: no CTC model of wav2vec 2.0 with its processor can be loaded: {error}; "
                "correct `evaluation.asr_model`"
            ) from error
        rate = processor.feature_extractor.sampling_rate
        if rate != SAMPLE_RATE:
            raise RecognizerError(
                f"{model}: hears audio of {rate} Hz, not {SAMPLE_RATE}; take another model"
            )
        signature = f"{model_name(model, loaded.config)}|decoding:greedy-ctc|lm:none|dtype:float32"
        return cls(loaded.to(device).eval(), processor, signature)

    @property
    def signature(self) -> str:
        """Name model, revision, decoding and precision."""
        return self._signature

    def normalise(self, text: str) -> str:
        """Lower-case; punctuation stays, as in the script."""
        return normalise(text, self.normaliser)

    @torch.inference_mode()
    def transcribe(self, waveforms: Sequence[np.ndarray]) -> list[str]:
        """Transcribe one by one; audio that is too short or silent gives "".

        Args:
            waveforms: float32 `[samples]` at 16 kHz each.

        Raises:
            RecognizerError: A waveform is not one channel of finite samples.
        """
        texts = [""] * len(waveforms)
        for index in audible(waveforms):
            inputs = self._processor(
                waveforms[index].astype(np.float32), sampling_rate=SAMPLE_RATE, return_tensors="pt"
            ).to(self._model.device)
            logits = self._model(**inputs).logits
            logits[..., self._unwritten] = -torch.inf
            # Not `skip_special_tokens`: that drops the blanks before repeats are merged.
            texts[index] = self._processor.batch_decode(logits.argmax(dim=-1))[0].strip()
        return texts
