"""Vocode what a model generated, transcribe the speech, and count the statistics of the scores."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from raystt import bleu, chrf
from raystt.config import EvaluationConfig
from raystt.corpus.card import SIDES, Card
from raystt.corpus.shards import of_side, read_rows
from raystt.evaluation.generate import Generated, generate
from raystt.evaluation.jobs import Evaluation, EvaluationJob, Sentence
from raystt.recognition.asr import load_recognizer
from raystt.recognition.utmos import Utmos
from raystt.vocoder.conv import load_vocoder


class Judge:
    """Vocoder, recogniser and scorer of a corpus, loaded once.

    Args:
        corpus: Directory of the prepared corpus.
        config: The protocol of scoring, and the weights of UTMOS.

    Attributes:
        corpus: Directory of the corpus.
        card: Its card.
        vocoder: What speaks its units.
        recogniser: What listens.
        signature: How ASR-BLEU comes about.

    Raises:
        BadInput: One of them cannot be loaded, or does not fit the corpus.
    """

    def __init__(self, corpus: str | Path, config: EvaluationConfig) -> None:
        self.corpus = Path(corpus)
        self.card = Card.load(self.corpus)
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.vocoder = load_vocoder(self.card.vocoder, self.corpus, device=device)
        self.recogniser = load_recognizer(config.asr, config, self.card, self.corpus, device)
        self._utmos = None if config.utmos is None else Utmos.load(config.utmos, device=device)
        self._lowercase = self.recogniser.protocol.lowercase
        self.signature = self.sign(self.vocoder.signature)
        # The statistics of chrF are of the same texts: the same words say how they came about.
        beyond = self.signature.removeprefix(bleu.text_signature(lowercase=self._lowercase))
        self._signatures = {
            "chrf": chrf.signature(lowercase=self._lowercase) + beyond,
            "text_bleu": bleu.text_signature(lowercase=False),
            "source_text_bleu": bleu.text_signature(lowercase=False),
        }
        if self._utmos is not None:
            self._signatures["utmos"] = f"{self._utmos.signature}|vocoder:{self.vocoder.signature}"

    def sign(self, vocoder: str) -> str:
        """Return the signature of a score of speech that `vocoder` made ("none": recorded)."""
        return bleu.signature(
            asr=self.recogniser.signature,
            vocoder=vocoder,
            normaliser=self.recogniser.normaliser,
            lowercase=self._lowercase,
        )

    def evaluate(self, job: EvaluationJob) -> Evaluation:
        """Run an evaluation of a model on a split."""
        began = time.perf_counter()
        rows = read_rows(self.corpus, self.card, job.language, job.split, job.config.sentences)
        generated = generate(rows, job, self.card)
        low = self.card.tokenizer.unit_offset + self.card.units.target.offset
        high = low + self.card.units.target.clusters
        spoken = [one.spoken for one in generated]
        kept = [tokens[(tokens >= low) & (tokens < high)] - low for tokens in spoken]
        waveforms = self.vocoder.synthesize(kept)
        hypotheses = [
            self.recogniser.normalise(text) for text in self.recogniser.transcribe(waveforms)
        ]
        natural = [None] * len(kept) if self._utmos is None else self._utmos.score(waveforms)
        ids = rows["id"].to_pylist()
        sources, targets = (of_side(rows, which)["text"].to_pylist() for which in SIDES)
        references = [self.recogniser.normalise(text) for text in targets]
        wrote = self._written(generated)
        texts = {}
        if job.interleaving.format == "chain_of_thought":
            texts["text_bleu"] = bleu.statistics(wrote["target"], targets, lowercase=False)
            texts["source_text_bleu"] = bleu.statistics(wrote["source"], sources, lowercase=False)
        sentences = tuple(
            Sentence(
                id=ids[i],
                reference=references[i],
                hypothesis=hypotheses[i],
                generated_source=wrote["source"][i] if texts else None,
                generated_target=wrote["target"][i] if texts else None,
                units=len(kept[i]),
                stray_tokens=len(spoken[i]) - len(kept[i]),
                seconds=round(len(waveforms[i]) / self.card.sample_rate, 3),
                utmos=natural[i],
            )
            for i in range(len(ids))
        )
        return Evaluation(
            language=job.language,
            split=job.split,
            sentences=sentences,
            statistics=bleu.statistics(hypotheses, references, lowercase=self._lowercase),
            chrf=chrf.statistics(hypotheses, references, lowercase=self._lowercase),
            texts=texts,
            signature=self.signature,
            signatures=self._signatures,
            seconds=time.perf_counter() - began,
        )

    def _written(self, generated: Sequence[Generated]) -> dict[str, list[str]]:
        """Decode the texts of a chain of thought; units strayed into them are dropped."""
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
