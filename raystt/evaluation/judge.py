"""Vocode what a model generated, transcribe the speech, and count the statistics of the scores."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from raystt.config import EvaluationConfig
from raystt.corpus.card import SIDES, Card
from raystt.corpus.rows import of_side
from raystt.corpus.shards import read_rows
from raystt.evaluation.clips import encode, heard
from raystt.evaluation.generate import Generated, generate
from raystt.evaluation.jobs import Evaluation, EvaluationJob, Sentence
from raystt.recognition.loading import load_recognizer
from raystt.recognition.utmos import Utmos
from raystt.scores import Metric, bleu, chrf
from raystt.vocoder.loading import load_vocoder

_BATCH = 64
T = TypeVar("T")


class Judge:
    """Vocoder, recogniser and scorer of a corpus, loaded once.

    Args:
        corpus: Directory of the prepared corpus.
        config: The protocol of scoring, and the weights of UTMOS.
        device: Where everything runs, "cpu" or "cuda".

    Attributes:
        corpus: Directory of the corpus.
        card: Its card.
        vocoder: What speaks its units.
        recogniser: What listens.
        bleu: What counts, as the recogniser's protocol has it.
        signature: How ASR-BLEU comes about.
        done: Batches generated, spoken and heard since it was loaded: who waits sees whether it
            goes on.

    Raises:
        BadInput: One of them cannot be loaded, or does not fit the corpus.
    """

    def __init__(self, corpus: str | Path, config: EvaluationConfig, *, device: str) -> None:
        self.corpus = Path(corpus)
        self.card = Card.of_corpus(self.corpus)
        self._device = device
        self.done = 0
        vocoder, asr = self.card.vocoder, self.card.asr
        self.vocoder = load_vocoder(vocoder.name, self.corpus / vocoder.path, device=device)
        self.recogniser = load_recognizer(
            config.asr, config.asr_model, language=self.card.target_language,
            fitted=None if asr is None else self.corpus / asr.path, device=device,
        )  # fmt: skip
        self._utmos = None if config.utmos is None else Utmos.load(config.utmos, device=device)
        lowercase = self.recogniser.protocol.lowercase
        self.bleu, self._chrf = bleu(lowercase=lowercase), chrf(lowercase=lowercase)
        self._text = bleu(lowercase=False)  # of the texts in a chain of thought, as written
        self.signature = self.sign(self.vocoder.signature)
        self._signatures = {
            "chrf": self.sign(self.vocoder.signature, self._chrf),
            "text_bleu": self._text.signature,
            "source_text_bleu": self._text.signature,
        }
        if self._utmos is not None:
            self._signatures["utmos"] = f"{self._utmos.signature}|vocoder:{self.vocoder.signature}"

    def sign(self, vocoder: str, metric: Metric | None = None) -> str:
        """Return the signature of a score of speech that `vocoder` made ("none": recorded).

        Args:
            vocoder: Its signature.
            metric: What scored the texts; BLEU by default.
        """
        return (metric or self.bleu).sign(
            asr=self.recogniser.signature, vocoder=vocoder, normaliser=self.recogniser.normaliser
        )

    def hear(self, waveforms: Sequence[np.ndarray]) -> list[str]:
        """Transcribe float32 `[samples]` each, normalised."""
        texts = self._in_batches(self.recogniser.transcribe, waveforms)
        return [self.recogniser.normalise(text) for text in texts]

    def voice(self, units: Sequence[np.ndarray]) -> list[np.ndarray]:
        """Synthesize units, int64 `[units]` each: float32 `[samples]` each."""
        return self._in_batches(self.vocoder.synthesize, units)

    def _in_batches(
        self, work: Callable[[Sequence[np.ndarray]], Iterable[T]], items: Sequence[np.ndarray]
    ) -> list[T]:
        """Do what depends on no batch a batch at a time, so that it is seen to go on."""
        done: list[T] = []
        for first in range(0, len(items), _BATCH):
            done += work(items[first : first + _BATCH])
            self._progress()
        return done

    def _progress(self) -> None:
        self.done += 1

    def evaluate(self, job: EvaluationJob) -> Evaluation:
        """Run an evaluation of a model on a split."""
        began = time.perf_counter()
        rows = read_rows(self.corpus, self.card, job.language, job.split, job.config.sentences)
        generated = generate(rows, job, self.card, device=self._device, on_batch=self._progress)
        kept, waveforms = self.speak(generated)
        hypotheses = self.hear(waveforms)
        natural = (
            [None] * len(kept) if self._utmos is None
            else self._in_batches(self._utmos.score, waveforms)
        )  # fmt: skip
        ids = rows["id"].to_pylist()
        sources, targets = (of_side(rows, which)["text"].to_pylist() for which in SIDES)
        references = [self.recogniser.normalise(text) for text in targets]
        wrote = self.written(generated)
        texts = {}
        if job.interleaving.format == "chain_of_thought":
            texts["text_bleu"] = self._text.statistics(wrote["target"], targets)
            texts["source_text_bleu"] = self._text.statistics(wrote["source"], sources)
        sentences = tuple(
            Sentence(
                id=ids[i],
                reference=references[i],
                hypothesis=hypotheses[i],
                generated_source=wrote["source"][i] if texts else None,
                generated_target=wrote["target"][i] if texts else None,
                units=len(kept[i]),
                stray_tokens=len(generated[i].spoken) - len(kept[i]),
                seconds=round(len(waveforms[i]) / self.card.sample_rate, 3),
                utmos=natural[i],
                truncated=not generated[i].ended,
            )
            for i in range(len(ids))
        )
        return Evaluation(
            language=job.language,
            split=job.split,
            sentences=sentences,
            statistics=self.bleu.statistics(hypotheses, references),
            chrf=self._chrf.statistics(hypotheses, references),
            texts=texts,
            signature=self.signature,
            signatures=self._signatures,
            seconds=time.perf_counter() - began,
            clips=tuple(encode(waveforms[i], self.card.sample_rate) for i in heard(ids)),
        )

    def speak(self, generated: Sequence[Generated]) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Return the target units of each output, int64 `[units]`, and float32 `[samples]`.

        Tokens that are no target unit cannot be spoken and are dropped.
        """
        low = self.card.tokenizer.unit_offset + self.card.units.target.offset
        high = low + self.card.units.target.clusters
        spoken = (one.spoken for one in generated)
        kept = [tokens[(tokens >= low) & (tokens < high)] - low for tokens in spoken]
        return kept, self.voice(kept)

    def written(self, generated: Sequence[Generated]) -> dict[str, list[str]]:
        """Decode the texts of a chain of thought; units strayed into them are dropped.

        Returns:
            "source" and "target" texts of each output; nothing in the direct format.
        """
        if all(one.target_text is None for one in generated):
            return {}
        from transformers import AutoTokenizer

        tokenizer = AutoTokenizer.from_pretrained(self.corpus / self.card.tokenizer.path)

        def decode(tokens: np.ndarray | None) -> str:
            if tokens is None:
                return ""
            text = tokens[tokens < self.card.tokenizer.text_vocabulary]
            return str(tokenizer.decode(text.tolist(), skip_special_tokens=True)).strip()

        return {
            "source": [decode(one.source_text) for one in generated],
            "target": [decode(one.target_text) for one in generated],
        }
