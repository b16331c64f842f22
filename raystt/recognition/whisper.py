"""The recogniser of the paper's ASR-BLEU: Whisper, greedy, with its own normaliser on both sides.

Decoding follows `seamless_communication`: one beam, temperature 0 and no fallback to a higher one
(repeatable, at the price of a loop now and then), the language given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import numpy as np
import torch

from raystt.hub import pinned
from raystt.recognition.protocols import PROTOCOLS, AsrProtocol
from raystt.recognition.recognizer import RecognizerError, audible, model_name
from raystt.speech import SAMPLE_RATE

_BATCH = 16  # windows decoded together


class WhisperRecognizer:
    """A Whisper model of any size.

    Whisper hears windows of 30 s. Longer audio is cut into such windows, whose texts are joined by
    a blank: a word on a border may be lost. No sentence of a corpus is that long; runaway
    generations are.
    """

    protocol: ClassVar[AsrProtocol] = PROTOCOLS["whisper"]

    def __init__(
        self, model: Any, processor: Any, language: str, signature: str, clean: Callable[[str], str]
    ) -> None:
        """Wrap a `WhisperForConditionalGeneration` and its processor; use `load` instead."""
        self._model = model
        self._processor = processor
        self._signature = signature
        self._clean = clean
        self.normaliser = "whisper-english" if language == "en" else "whisper-basic"
        self._options: dict[str, Any] = {
            # A model of English alone refuses to be told so.
            **(
                {"language": language, "task": "transcribe"}
                if model.generation_config.is_multilingual
                else {}
            ),
            "return_timestamps": False,
            "do_sample": False,
            "num_beams": 1,
            # OpenAI's own limit: half of the decoder's context.
            "max_new_tokens": model.config.max_target_positions // 2,
        }

    @classmethod
    def load(cls, model: str, *, language: str, device: str = "cpu") -> WhisperRecognizer:
        """Load a model with its processor and its normaliser.

        Args:
            model: A directory, NAME or NAME@REVISION.
            language: What is spoken, an ISO 639-1 code such as "en". English texts are scored after
                Whisper's English normaliser, others after its basic one.
            device: Torch device; half precision on a GPU, as OpenAI's own code has it, full
                precision elsewhere.

        Raises:
            RecognizerError: It cannot be loaded, does not know the language, or comes without the
                English spellings that its normaliser needs.
        """
        from transformers import WhisperForConditionalGeneration, WhisperProcessor
        from transformers.models.whisper.english_normalizer import (
            BasicTextNormalizer,
            EnglishTextNormalizer,
        )

        name, revision = pinned(model)
        dtype = torch.float16 if torch.device(device).type == "cuda" else torch.float32
        try:
            processor = WhisperProcessor.from_pretrained(name, revision=revision)
            loaded = WhisperForConditionalGeneration.from_pretrained(
                name, revision=revision, dtype=dtype
            )
        except (OSError, ValueError) as error:
            raise RecognizerError(
                f"{model}: no Whisper model with its processor can be loaded: {error}; correct "
                "`evaluation.asr_model`"
            ) from error
        _check_language(model, loaded.generation_config, language)
        loaded.generation_config.max_length = None  # `max_new_tokens` is given in its place
        clean: Callable[[str], str] = BasicTextNormalizer()
        if language == "en":
            spellings = processor.tokenizer.english_spelling_normalizer
            if spellings is None:
                raise RecognizerError(
                    f"{model}: has no normalizer.json, the spellings of Whisper's English "
                    "normaliser; copy that file from another Whisper model, it is the same in all"
                )
            clean = EnglishTextNormalizer(spellings)
        signature = (
            f"{model_name(model, loaded.config)}|beam:1|temperature:0.0|language:{language}"
            f"|dtype:{str(dtype).removeprefix('torch.')}"
        )
        return cls(loaded.to(device).eval(), processor, language, signature, clean)

    @property
    def signature(self) -> str:
        """Name model, revision, decoding, language and precision."""
        return self._signature

    def normalise(self, text: str) -> str:
        """Apply Whisper's English normaliser, or its basic one to another language."""
        return self._clean(text)

    @torch.inference_mode()
    def transcribe(self, waveforms: Sequence[np.ndarray]) -> list[str]:
        """Transcribe in batches of about equal length; too short or silent audio gives "".

        Every window is padded to 30 s whatever its batch, so that a text depends on its audio
        alone.

        Args:
            waveforms: float32 `[samples]` at 16 kHz each.

        Raises:
            RecognizerError: A waveform is not one channel of finite samples.
        """
        size = self._processor.feature_extractor.n_samples
        windows = [
            (index, waveforms[index][start : start + size].astype(np.float32))
            for index in audible(waveforms)
            for start in range(0, len(waveforms[index]), size)
        ]
        # The rest behind 30 s may be next to nothing, to which Whisper invents a text.
        windows = [windows[i] for i in audible([window for _, window in windows])]
        # Long audio has long texts: a batch decodes until its longest text ends.
        order = sorted(range(len(windows)), key=lambda i: -len(windows[i][1]))
        heard = [""] * len(windows)
        for first in range(0, len(order), _BATCH):
            members = order[first : first + _BATCH]
            features = self._processor(
                [windows[i][1] for i in members], sampling_rate=SAMPLE_RATE, return_tensors="pt"
            ).input_features.to(self._model.device, self._model.dtype)
            tokens = self._model.generate(features, **self._options)
            texts = self._processor.batch_decode(tokens, skip_special_tokens=True)
            for i, text in zip(members, texts, strict=True):
                heard[i] = text.strip()
        joined: list[list[str]] = [[] for _ in waveforms]
        for (index, _), text in zip(windows, heard, strict=True):
            joined[index].append(text)
        return [" ".join(filter(None, parts)) for parts in joined]


def _check_language(model: str, generation: Any, language: str) -> None:
    if not hasattr(generation, "is_multilingual"):
        raise RecognizerError(
            f"{model}: its generation_config.json does not say `is_multilingual`; take that file "
            "from the model's page on the hub"
        )
    if not generation.is_multilingual:
        if language != "en":
            raise RecognizerError(
                f"{model}: hears English alone, the corpus speaks {language!r}; take the model "
                "without `.en`"
            )
    elif f"<|{language}|>" not in generation.lang_to_id:
        raise RecognizerError(
            f"{model}: does not know the language {language!r}; take the protocol "
            "fairseq-wav2vec2 with a model of that language in `evaluation.asr_model`"
        )
