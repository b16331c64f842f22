"""The corpus part of a run's config: where speech comes from, and what is made of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from raystt.config.base import Count, Directory, Language, Positive
from raystt.speech import MFCC
from raystt.strict import Complaint, Invalid, Part

SPLITS = ("train", "dev", "test")
"""Splits with speech."""


def _pretrained(value: str) -> str:
    name, _, revision = value.rpartition("@") if "@" in value else (value, "", "x")
    if not name or not revision:
        reason = f"{value!r} names no model"
        raise Invalid([Complaint((), reason, "give a directory, NAME or NAME@REVISION of the hub")])
    return value


Pretrained = Annotated[str, AfterValidator(_pretrained)]
"""A directory, or a name on the hub, pinned as NAME@REVISION (see `raystt.hub`)."""


class LanguageSizes(Part):
    """Sentence pairs of one source language, by split; null = all there are."""

    train: Count | None = Field(default=None, description="pairs with audio to train on")
    dev: Count | None = Field(default=64, description="pairs that trials are scored on")
    test: Count | None = Field(default=100, description="pairs that the final few are scored on")


class SourcesConfig(Part):
    """Where the recordings lie; `{language}` stands for the source language."""

    manifest: str | None = Field(default=None, description="TSV or JSONL, of `reader: manifest`")
    common_voice: str | None = Field(default=None, description="directory with clips/, of `cvss`")
    covost: str | None = Field(default=None, description="directory of CoVoST 2's TSVs, of `cvss`")
    cvss: str | None = Field(default=None, description="directory of CVSS-C or CVSS-T, of `cvss`")


class QualityConfig(Part):
    """What a recording must be like; the others are quarantined with a reason."""

    min_seconds: Positive = Field(default=0.2, description="shortest audio, seconds")
    max_seconds: Positive = Field(default=30.0, description="longest audio, seconds")
    max_characters_per_second: Positive = Field(default=50.0, description="fastest speech")
    max_quarantined: float = Field(
        default=0.05, ge=0, le=1, description="share of a split's rows from which on it is refused"
    )

    def refuses(self, bad: int, total: int) -> bool:
        """Say whether `bad` unusable rows of `total` are too many; none never are."""
        return bad > 0 and bad >= self.max_quarantined * total


class UnitsConfig(Part):
    """Speech units: k-means clusters of the frames of a speech encoder."""

    encoder: Pretrained = Field(
        default="mfcc", description="`mfcc`, `mfcc_20ms`, or a transformers speech encoder"
    )
    layer: int | None = Field(
        default=None, ge=0, description="hidden layer, 0 = before the first; null = the last"
    )
    source: int = Field(default=100, ge=2, description="clusters of the source side's codebook")
    target: int | None = Field(
        default=200, ge=2, description="the same of the target side; null = one codebook for both"
    )
    codebook: str | None = Field(
        default=None, description="k-means file to use; null = fit it to the corpus"
    )
    sample: Count = Field(
        default=600, description="utterances a side that k-means is fitted to, over all languages"
    )
    deduplicate: bool = Field(default=True, description="merge runs of the same unit into one")


class FinetuneConfig(Part):
    """CTC fine-tuning of the unit encoder on the corpus' transcripts (paper, section 3)."""

    steps: Count = Field(default=2000, description="optimiser steps")
    batch_seconds: Positive = Field(default=160.0, description="audio a step, over all workers")
    learning_rate: Positive = Field(default=2e-5, description="peak learning rate; the paper's")
    warmup: float = Field(default=0.1, ge=0, lt=1, description="fraction of the steps warming up")


class AlignmentConfig(Part):
    """Which units belong to which word."""

    method: Literal["marks", "ctc", "mms_fa", "equal"] = Field(
        default="marks", description="the synthesizer's marks, forced alignment, or equal lengths"
    )
    model: Pretrained | None = Field(
        default=None, description="CTC model of `ctc`; null = the fine-tuned unit encoder"
    )


class VocoderConfig(Part):
    """From units to audio."""

    kind: Literal["conv", "seamless"] = Field(
        default="conv", description="a network fitted to the corpus, or Seamless' unit HiFi-GAN"
    )
    model: Pretrained | None = Field(
        default=None, description="mel vocoder behind `conv` (null = Griffin-Lim), or the HiFi-GAN"
    )
    steps: Count = Field(default=250, description="optimiser steps of `conv`")
    sample: Count = Field(default=600, description="utterances that `conv` is fitted to")
    hidden: Count | None = Field(
        default=None,
        description="channels of `conv`; null = 128, 256 of a trained encoder's units",
        exclude_if=lambda hidden: hidden is None,
    )


class BaseLmConfig(Part):
    """The text LM trained on the task's text, in place of a pretrained one."""

    layers: Count = Field(default=3, description="decoder layers")
    hidden: Count = Field(default=160, description="width of the hidden states")
    heads: Count = Field(default=4, description="attention heads; a divisor of `hidden`")
    steps: Count = Field(default=160, description="optimiser steps")
    batch: Count = Field(default=32, description="sentence pairs a step")
    learning_rate: Positive = Field(default=3e-3, description="peak learning rate")

    @model_validator(mode="after")
    def _heads_divide(self) -> BaseLmConfig:
        if self.hidden % self.heads or (self.hidden // self.heads) % 2:
            reason = f"{self.heads} heads do not split {self.hidden} into parts of an even width"
            raise Invalid([Complaint(("heads",), reason, "choose hidden = heads x an even number")])
        return self


class CorpusConfig(Part):
    """What to prepare, or where it was prepared."""

    reader: Literal["embedded", "manifest", "cvss"] = Field(
        default="embedded", description="where the sentences come from"
    )
    path: Directory = Field(
        default="data/embedded", description="directory of the corpus, or s3://…"
    )
    sources: SourcesConfig = SourcesConfig()
    languages: dict[Language, LanguageSizes] = Field(min_length=1, description="source languages")
    target: Language = Field(default="en", description="target language")
    text_pairs: Count = Field(
        default=2000, description="text-only pairs a language, for the base LM"
    )
    seed: int = Field(default=1, ge=0, description="seed of sentences, units, vocoder and base LM")
    quality: QualityConfig = QualityConfig()
    units: UnitsConfig = UnitsConfig()
    finetune: FinetuneConfig | None = Field(
        default=None, description="CTC fine-tuning of the unit encoder; null = as it is"
    )
    alignment: AlignmentConfig = AlignmentConfig()
    tokenizer: Pretrained | None = Field(
        default=None, description="text tokenizer, the base model's; null = one word a token"
    )
    vocoder: VocoderConfig = VocoderConfig()
    base: BaseLmConfig = BaseLmConfig()
    shard_rows: Count = Field(default=100_000, description="most rows of a Parquet shard")

    def channels(self) -> int:
        """Return the channels of the vocoder `conv`: 2048 units of a network need more of them."""
        return self.vocoder.hidden or (128 if self.units.encoder in MFCC else 256)

    def content(self) -> dict[str, Any]:
        """Return what decides the contents of a corpus: neither place nor tolerance do."""
        return self.model_dump(mode="json", exclude={"path": True, "quality": {"max_quarantined"}})

    @model_validator(mode="after")
    def _fits_together(self) -> CorpusConfig:
        found = [*self._of_the_reader(), *self._of_the_encoder()]
        if found:
            keys = ("reader", "sources", "units", "finetune", "alignment", "tokenizer", "vocoder")
            raise Invalid(found, reads=[(key,) for key in keys])
        return self

    def _of_the_reader(self) -> Iterator[Complaint]:
        if self.reader == "embedded":
            for language, sizes in self.languages.items():
                for split in SPLITS:
                    if getattr(sizes, split) is None:
                        at = ("languages", language, split)
                        reason = "the embedded corpus needs a number: it has no end"
                        yield Complaint(at, reason, "give a number of pairs, such as 300")
            if self.tokenizer is not None:
                reason = "the embedded corpus has a tokenizer of its own, one word a token"
                yield Complaint(("tokenizer",), reason, "remove it")
            return
        needed = {"manifest": ("manifest",), "cvss": ("common_voice", "covost", "cvss")}
        for key in needed[self.reader]:
            if getattr(self.sources, key) is None:
                meaning = SourcesConfig.model_fields[key].description
                fix = f"add `{key}:` ({meaning})"
                yield Complaint(("sources", key), f"`reader: {self.reader}` needs it", fix)
        if self.tokenizer is None:
            reason = f"`reader: {self.reader}` needs the tokenizer of the base model"
            yield Complaint(("tokenizer",), reason, "give the directory or hub name of model.base")
        if self.alignment.method == "marks":
            reason = "recordings have no marks of words"
            yield Complaint(("alignment", "method"), reason, "choose from: ctc, mms_fa, equal")

    def _of_the_encoder(self) -> Iterator[Complaint]:
        if self.units.encoder in MFCC:
            if self.finetune is not None:
                reason = f"units.encoder {self.units.encoder} has nothing to fine-tune"
                yield Complaint(("finetune",), reason, "remove it, or name a speech encoder")
            if self.units.layer is not None:
                yield Complaint(
                    ("units", "layer"), f"{self.units.encoder} has no layers", "remove it"
                )
        if self.alignment.method == "ctc" and not (self.alignment.model or self.finetune):
            reason = "`method: ctc` needs a CTC model"
            yield Complaint(("alignment", "model"), reason, "name one, or add corpus.finetune")
        if self.alignment.method != "ctc" and self.alignment.model is not None:
            reason = f"`method: {self.alignment.method}` takes no model"
            yield Complaint(("alignment", "model"), reason, "remove it, or set `method: ctc`")
        if self.vocoder.kind == "seamless" and self.vocoder.model is None:
            reason = "`kind: seamless` needs the model"
            fix = "give its directory or hub name, such as facebook/seamless-m4t-v2-large"
            yield Complaint(("vocoder", "model"), reason, fix)
