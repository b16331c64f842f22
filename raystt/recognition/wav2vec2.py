"""The recogniser of fairseq's ASR-BLEU: wav2vec 2.0 with CTC, greedy, without a language model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from raystt.hub import pinned
from raystt.recognition.protocols import PROTOCOLS, AsrProtocol, normalise
from raystt.recognition.recognizer import RecognizerError, audible, model_name
from raystt.speech import SAMPLE_RATE
from raystt.speech.network import MAX_BATCH_SECONDS, in_batches, shortest


class Wav2Vec2Recognizer:
    """A CTC model over batches of similar length.

    The group norm of the smaller models sees the padding, so that a text would depend on the others
    of its batch: their batches are of equal lengths. That of the protocol has a layer norm.
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
        self._mixed = model.config.feat_extract_norm != "group"

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
        """Transcribe, sorted by length; audio that is too short or silent gives "".

        Args:
            waveforms: float32 `[samples]` at 16 kHz each.

        Raises:
            RecognizerError: A waveform is not one channel of finite samples.
        """
        texts = [""] * len(waveforms)
        heard = audible(waveforms)
        best = in_batches(
            [waveforms[index].astype(np.float32) for index in heard],
            self._letters,
            shortest=shortest(self._model.config),
            mixed=self._mixed,
            most=int(MAX_BATCH_SECONDS * SAMPLE_RATE),
        )
        for index, letters in zip(heard, best, strict=True):
            ids = letters[:, 0].astype(np.int64)
            # Not `skip_special_tokens`: that drops the blanks before repeats are merged.
            texts[index] = self._processor.batch_decode(ids[None])[0].strip()
        return texts

    def _letters(self, batch: list[np.ndarray]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the best letter of each frame, [batch, frames, 1], and the frames [batch]."""
        inputs = self._processor(
            batch, sampling_rate=SAMPLE_RATE, padding=True,
            return_attention_mask=self._mixed, return_tensors="pt",
        ).to(self._model.device)  # fmt: skip
        logits = self._model(**inputs).logits
        logits[..., self._unwritten] = -torch.inf
        lengths = torch.tensor([len(waveform) for waveform in batch])
        counts = self._model._get_feat_extract_output_lengths(lengths)
        return logits.argmax(dim=-1, keepdim=True), counts
