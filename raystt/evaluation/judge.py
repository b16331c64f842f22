"""Vocode what a model generated, transcribe the speech, and count BLEU statistics."""

from __future__ import annotations

import time
from pathlib import Path

from raystt.bleu import normalise, signature, statistics
from raystt.config import EvaluationConfig
from raystt.corpus.card import Card
from raystt.corpus.shards import read_rows
from raystt.evaluation.generate import generate
from raystt.evaluation.jobs import Evaluation, EvaluationJob, Sentence
from raystt.speech.asr import RECOGNIZERS
from raystt.speech.vocoder import VOCODERS


class Judge:
    """Vocoder and recogniser of a corpus, loaded once.

    Args:
        corpus: Directory of the prepared corpus.
        config: Names of the recogniser and the normaliser.
    """

    def __init__(self, corpus: str | Path, config: EvaluationConfig) -> None:
        self.corpus = Path(corpus)
        self.card = Card.load(self.corpus)
        self._vocoder = VOCODERS[self.card.vocoder.name].load(self.corpus / self.card.vocoder.path)
        self._recogniser = RECOGNIZERS[config.asr].load(self.corpus / self.card.asr.path)
        self.signature = signature(
            asr=self._recogniser.signature,
            vocoder=self._vocoder.signature,
            normaliser=config.normaliser,
        )

    def evaluate(self, job: EvaluationJob) -> Evaluation:
        """Run an evaluation of a model on a split."""
        began = time.perf_counter()
        rows = read_rows(self.corpus, self.card, job.language, job.split, job.config.sentences)
        generated = generate(rows, job, self.card)
        low = self.card.tokenizer.unit_offset + self.card.units.target.offset
        high = low + self.card.units.target.clusters
        kept = [tokens[(tokens >= low) & (tokens < high)] - low for tokens in generated]
        waveforms = self._vocoder.synthesize(kept)
        heard = self._recogniser.transcribe(waveforms)
        name = job.config.normaliser
        references = [normalise(text, name) for text in rows["target_text"].to_pylist()]
        hypotheses = [normalise(text, name) for text in heard]
        ids = rows["id"].to_pylist()
        sentences = tuple(
            Sentence(
                id=ids[i],
                reference=references[i],
                hypothesis=hypotheses[i],
                units=len(kept[i]),
                stray_tokens=len(generated[i]) - len(kept[i]),
                seconds=round(len(waveforms[i]) / self.card.sample_rate, 3),
            )
            for i in range(len(ids))
        )
        return Evaluation(
            language=job.language,
            split=job.split,
            sentences=sentences,
            statistics=statistics(hypotheses, references),
            signature=self.signature,
            seconds=time.perf_counter() - began,
        )
