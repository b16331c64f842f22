"""CTC fine-tuning of a transformers speech encoder on characters (paper, section 3).

The library's own model classes, processors and loss; one data-parallel step whose gradient does
not depend on the number of workers. Free of Ray: a process group, if there is one, is used.
"""

from __future__ import annotations

import json
import tempfile
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from transformers import (
    AutoFeatureExtractor,
    AutoModelForCTC,
    SeamlessM4TFeatureExtractor,
    Wav2Vec2BertProcessor,
    Wav2Vec2CTCTokenizer,
    Wav2Vec2Processor,
    get_scheduler,
)
from transformers.modeling_utils import PreTrainedModel

from raystt.config import FinetuneConfig
from raystt.errors import BadInput
from raystt.hub import pinned
from raystt.speech import SAMPLE_RATE
from raystt.speech.network import frame_length, read_config

PAD, UNKNOWN, DELIMITER = "<pad>", "<unk>", "|"
MICRO_BATCH_SECONDS = 80.0
"""Audio that goes through the model at a time, padding included."""

_CLIPPING = 1.0
_BORDER = 2  # frames, at most, that convolutions without padding lose

Processor = Any
"""Wav2Vec2Processor or Wav2Vec2BertProcessor, of which type checkers see no attributes."""


class CtcError(BadInput):
    """An encoder or a corpus that CTC cannot be trained on; the text names it and the fix."""


def spelling(text: str) -> str:
    """Return what CTC spells of a text: lower-case words of letters, digits and apostrophes.

    Punctuation is not spoken: as a label it would have to lie somewhere in the audio.

    >>> spelling("Don’t  stop -- now!")
    "don't stop now"
    """
    lowered = unicodedata.normalize("NFC", text).lower().replace("\u2019", "'")
    words = (
        "".join(c for c in word if unicodedata.category(c)[0] in "LMN" or c == "'")
        for word in lowered.replace("-", " ").split()
    )
    return " ".join(word for word in words if word.strip("'"))


def vocabulary(texts: Iterable[str]) -> dict[str, int]:
    """Number the characters of the texts' spelling: blank, unknown, word delimiter, the others."""
    characters = {c for text in texts for c in spelling(text)} - {" "}
    return {token: i for i, token in enumerate([PAD, UNKNOWN, DELIMITER, *sorted(characters)])}


def new_processor(encoder: str, texts: Iterable[str]) -> Processor:
    """Put the encoder's own feature extractor and a tokenizer of the texts' characters together.

    Raises:
        CtcError: The encoder's feature extractor cannot be loaded.
    """
    name, revision = pinned(encoder)
    try:
        extractor = AutoFeatureExtractor.from_pretrained(name, revision=revision)
    except (OSError, ValueError) as error:
        raise CtcError(_unloadable(encoder, error)) from error
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vocab.json"
        file.write_text(json.dumps(vocabulary(texts), ensure_ascii=False), encoding="utf-8")
        # No begin and end of sentence: they would be ids beyond the model's outputs.
        tokenizer = Wav2Vec2CTCTokenizer(
            str(file),
            bos_token=None,
            eos_token=None,
            unk_token=UNKNOWN,
            pad_token=PAD,
            word_delimiter_token=DELIMITER,
        )
    kind = (
        Wav2Vec2BertProcessor
        if isinstance(extractor, SeamlessM4TFeatureExtractor)
        else Wav2Vec2Processor
    )
    return kind(extractor, tokenizer)


def load_model(encoder: str, processor: Processor) -> PreTrainedModel:
    """Load an encoder in fp32 with a CTC head of the processor's vocabulary; a new one is random.

    Raises:
        EncoderError: It is missing, or no speech encoder.
        CtcError: It cannot be loaded.
    """
    read_config(encoder)
    name, revision = pinned(encoder)
    try:
        model = AutoModelForCTC.from_pretrained(
            name,
            revision=revision,
            dtype=torch.float32,
            vocab_size=len(processor.tokenizer),
            pad_token_id=processor.tokenizer.pad_token_id,
            ctc_loss_reduction="mean",
            ctc_zero_infinity=True,
            ignore_mismatched_sizes=True,
            # Its masks are longer than short utterances, at which it fails; and the random numbers
            # of masks and dropped layers would be numpy's, which a resumed run does not repeat.
            apply_spec_augment=False,
            layerdrop=0.0,
        )
    except (OSError, ValueError) as error:
        raise CtcError(_unloadable(encoder, error)) from error
    return model


def _unloadable(encoder: str, error: Exception) -> str:
    return (
        f"corpus.units.encoder: {encoder!r} cannot be fine-tuned with CTC ({error}); name a "
        "Wav2Vec2, Wav2Vec2-BERT, HuBERT, WavLM or XLS-R model that is on this machine or the hub"
    )


class CtcTrainer:
    """A CTC model in training.

    Args:
        model: Of `AutoModelForCTC`, fp32.
        processor: Its processor.
        config: Steps, learning rate and warm-up.
        seed: Seed of dropout.
        device: Where the model goes. CUDA devices that can multiply in bf16 do.
        freeze: Leave the convolutions as they are, where the architecture has a method for it, as
            all published recipes do with a pretrained encoder.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        processor: Processor,
        config: FinetuneConfig,
        *,
        seed: int,
        device: torch.device,
        freeze: bool = True,
    ) -> None:
        self.model: Any = model.to(device)
        self.processor = processor
        self.steps_done = 0
        self.rank = dist.get_rank() if dist.is_initialized() else 0
        self.world_size = dist.get_world_size() if dist.is_initialized() else 1
        self._seed = seed
        self.device = device
        self._half = device.type == "cuda" and torch.cuda.is_bf16_supported()
        if freeze and hasattr(self.model, "freeze_feature_encoder"):
            self.model.freeze_feature_encoder()
        self._trained = [p for p in self.model.parameters() if p.requires_grad]
        # The paper: Adam. Decay would also pull at parameters that get no gradient.
        self._optimizer = torch.optim.AdamW(
            self._trained, lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.0
        )
        self._scheduler = get_scheduler(
            "linear",
            self._optimizer,
            num_warmup_steps=round(config.warmup * config.steps),
            num_training_steps=config.steps,
        )

    def step(
        self, waveforms: Sequence[np.ndarray], texts: Sequence[str], weight: float, longest: int
    ) -> float:
        """Do one optimiser step on this worker's part of a batch; all workers must call it.

        Args:
            waveforms: float32 [samples] each, 16 kHz; none where the part is empty.
            texts: Their transcripts.
            weight: This worker's part of the batch (`ctc_batches.share`).
            longest: Samples of the longest utterance of the whole batch.

        Returns:
            The loss, nats a character, mean over the utterances of the whole batch.
        """
        # A seed a step and rank: a resumed run draws the dropout of an uninterrupted one.
        seeds = np.random.SeedSequence([self._seed, self.steps_done, self.rank])
        torch.manual_seed(int(seeds.generate_state(1)[0]))
        loss = self.accumulate(waveforms, texts, weight, longest)
        if self.world_size > 1:
            dist.all_reduce(loss)
            for parameter in self._trained:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                dist.all_reduce(parameter.grad)
        torch.nn.utils.clip_grad_norm_(self._trained, _CLIPPING)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self._scheduler.step()
        self.steps_done += 1
        return float(loss.item())

    def accumulate(
        self, waveforms: Sequence[np.ndarray], texts: Sequence[str], weight: float, longest: int
    ) -> torch.Tensor:
        """Add the gradient of weight x mean loss, and return that product, a detached scalar.

        The part goes through the model in pieces of at most `MICRO_BATCH_SECONDS`, padding
        included: what is held in memory does not depend on `batch_seconds`.
        """
        total = torch.zeros((), device=self.device)
        self.model.train()
        piece = max(1, int(MICRO_BATCH_SECONDS * SAMPLE_RATE / max(longest, 1)))
        for start in range(0, len(waveforms), piece):
            some = slice(start, start + piece)
            part = weight * len(waveforms[some]) / len(waveforms)
            total += self._backward(waveforms[some], texts[some], part, longest)
        return total

    def _backward(
        self, waveforms: Sequence[np.ndarray], texts: Sequence[str], weight: float, longest: int
    ) -> torch.Tensor:
        # Models with a group norm over time see the padding, so all workers must pad alike.
        padded = [*waveforms, np.zeros(longest, np.float32)]
        inputs = {name: value[:-1] for name, value in self._inputs(padded).items()}
        ids = [torch.tensor(self.processor.tokenizer(spelling(text)).input_ids) for text in texts]
        labels = torch.nn.utils.rnn.pad_sequence(ids, batch_first=True, padding_value=-100)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            loss = self.model(**inputs, labels=labels.to(self.device)).loss * weight
        loss.backward()
        return torch.as_tensor(loss.detach())

    def _inputs(self, waveforms: Sequence[np.ndarray]) -> dict[str, torch.Tensor]:
        extracted = self.processor.feature_extractor(
            list(waveforms), sampling_rate=SAMPLE_RATE, padding=True, return_tensors="pt"
        )
        return {name: value.to(self.device) for name, value in extracted.items()}

    @torch.inference_mode()
    def _logits(self, waveform: np.ndarray) -> torch.Tensor:
        """Return the logits [frames, vocabulary] of one utterance."""
        self.model.eval()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            return torch.as_tensor(self.model(**self._inputs([waveform])).logits[0].float())

    def fits(self, text: str, seconds: float) -> bool:
        """Tell whether a text has labels, and no more than CTC can spell in that time."""
        ids = self.processor.tokenizer(spelling(text)).input_ids
        blanks = sum(a == b for a, b in zip(ids, ids[1:], strict=False))
        return 0 < len(ids) + blanks <= seconds / frame_length(self.model.config) - _BORDER

    def errors(self, waveform: np.ndarray, text: str) -> tuple[int, int]:
        """Transcribe greedily; return the characters at fault and those of the spelling."""
        best = self._logits(waveform).argmax(dim=-1)
        heard = self.processor.tokenizer.decode(best.tolist())
        truth = spelling(text)
        return edit_distance(heard, truth), len(truth)

    def state(self) -> dict[str, Any]:
        """Return all that another trainer of the same job needs to continue."""
        return {
            "step": self.steps_done,
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from a `state`."""
        self.steps_done = state["step"]
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._scheduler.load_state_dict(state["scheduler"])


def edit_distance(one: str, other: str) -> int:
    """Return the fewest insertions, deletions and replacements between two texts.

    >>> edit_distance("speech", "peach")
    2
    """
    row = list(range(len(other) + 1))
    for i, a in enumerate(one, 1):
        before, row[0] = row[0], i
        for j, b in enumerate(other, 1):
            before, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, before + (a != b))
    return row[-1]
