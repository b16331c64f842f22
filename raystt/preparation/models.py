"""Models of a corpus: fine-tuned encoder, given codebooks, vocoder, recogniser and base LM."""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from raystt.config import CorpusConfig, ResourcesConfig
from raystt.corpus.card import Card, CodebookCard, ShardEntry, UnitsCard
from raystt.corpus.rows import column
from raystt.corpus.shards import read
from raystt.errors import PrepareError
from raystt.files import replacing
from raystt.preparation.rows import encoder_name
from raystt.preparation.tasks import Tasks, note_progress
from raystt.readers.recordings import subset
from raystt.readers.utterance import Utterance

ENCODER, VOCODER, ASR, BASE = "encoder", "vocoder", "asr", "base"  # relative to the corpus
FITTED = (ENCODER, "units")  # all that follows is made of
RECOGNIZER = "pocketsphinx"

Trained = Mapping[str, tuple[Sequence[ShardEntry], Sequence[Utterance]]]
"""By language: the shards of the training split, and the utterances that they came from."""


def finetuned(corpus: Path, config: CorpusConfig) -> Path | None:
    """Return the directory of the fine-tuned unit encoder, None if the config asks for none."""
    return corpus / ENCODER if config.finetune else None


def add_encoder(
    tasks: Tasks,
    corpus: Path,
    config: CorpusConfig,
    transcripts: Sequence[tuple[str, str]],
    resources: ResourcesConfig,
) -> None:
    """Submit the CTC fine-tuning of the unit encoder on (audio, text), if it is asked for."""
    if config.finetune is not None:
        done = (corpus / ENCODER).exists()
        # It waits for the worker group of Ray Train that it starts, so it needs no CPU of its own.
        args = (corpus, config, transcripts, resources)
        tasks.add("encoder", _fit_encoder, *args, done=done, cpus=0.0)


def _fit_encoder(
    corpus: Path,
    config: CorpusConfig,
    transcripts: Sequence[tuple[str, str]],
    resources: ResourcesConfig,
) -> None:
    from raystt.preparation.fit_encoder import FinetuneJob, fit_encoder

    assert config.finetune is not None
    note = note_progress(corpus, "encoder")
    job = FinetuneJob(
        encoder=config.units.encoder, config=config.finetune, utterances=tuple(transcripts),
        quality=config.quality, seed=config.seed, out=corpus / ENCODER,
        on_step=lambda step, steps, loss: note(step, steps),
    )  # fmt: skip
    fit_encoder(job, resources)


def copy_codebooks(corpus: Path, config: CorpusConfig, books: Iterable[CodebookCard]) -> None:
    """Take a given codebook instead of fitting one.

    Raises:
        PrepareError: it has another number of clusters than the config says.
        UnitError: it is no codebook.
    """
    from raystt.speech.units import Codebook

    given = config.units.codebook
    assert given is not None
    for book in books:
        codebook = Codebook.load(given)
        if codebook.clusters != book.clusters:
            raise PrepareError(
                f"corpus.units: {given} has {codebook.clusters} clusters, the config says "
                f"{book.clusters}; set corpus.units.source (and target, unless it is null) to "
                f"{codebook.clusters}"
            )
        wanted = encoder_name(config)
        if codebook.encoder not in ("", wanted):
            raise PrepareError(
                f"corpus.units.codebook: {given} is of the encoder {codebook.encoder!r}, asked "
                f"for is {wanted!r}; give the codebook of that, or remove the key to fit one"
            )
        codebook.save(corpus / book.path)


def add_vocoder(
    tasks: Tasks,
    corpus: Path,
    config: CorpusConfig,
    units: UnitsCard,
    train: Trained,
    resources: ResourcesConfig,
) -> None:
    """Submit the fitting of the vocoder to the target side of some training pairs.

    Seamless' vocoder is fitted already: what is written is its name.
    """
    if config.vocoder.kind == "seamless":
        from raystt.vocoder.seamless import save_seamless

        assert config.vocoder.model is not None
        if not (corpus / VOCODER).exists():
            with replacing(corpus / VOCODER) as folder:
                save_seamless(
                    folder, config.vocoder.model, clusters=units.target.clusters,
                    frame_seconds=units.frame_seconds, deduplicated=units.deduplicated,
                )  # fmt: skip
        return
    done = (corpus / VOCODER).exists()
    share = -(-config.vocoder.sample // len(train))
    sample = {
        language: (shards, {u.id: u.target.audio for u in subset(utterances, share)})
        for language, (shards, utterances) in train.items()
    }
    args = (corpus, config, units, sample, resources)
    tasks.add("vocoder", _fit_vocoder, *args, done=done, cpus=0.0)


def _fit_vocoder(
    corpus: Path,
    config: CorpusConfig,
    units: UnitsCard,
    sample: dict[str, tuple[Sequence[ShardEntry], dict[str, str]]],
    resources: ResourcesConfig,
) -> None:
    from raystt.preparation.fit_vocoder import Settings, fit_vocoder

    spoken = [
        (local, durations, audio[name])
        for shards, audio in sample.values()
        for name, local, durations in _target_units(corpus, shards, units, audio)
    ]
    settings = Settings(
        clusters=units.target.clusters, frame_seconds=units.frame_seconds, seed=config.seed,
        steps=config.vocoder.steps, mel=config.vocoder.model,
        hidden=config.channels(),
    )  # fmt: skip
    note = note_progress(corpus, "vocoder")
    fit_vocoder(
        spoken, settings, corpus / VOCODER, resources,
        on_step=lambda step, steps, loss: note(step, steps),
    )  # fmt: skip


def _target_units(
    corpus: Path, shards: Sequence[ShardEntry], units: UnitsCard, names: Container[str]
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Yield (id, clusters, durations) of the named rows; some may have been set aside."""
    columns = ["id", *(column("target", name) for name in ("units", "durations"))]
    for entry in shards:
        table = read(corpus / entry.path, entry.rows, columns)
        wanted = [name in names for name in table["id"].to_pylist()]
        rows = table.filter(wanted).to_pydict().values()
        for name, ids, durations in zip(*rows, strict=True):
            yield name, np.array(ids) - units.target.offset, np.array(durations)


def add_asr(tasks: Tasks, corpus: Path, sentences: Sequence[str]) -> None:
    """Submit the building of pocketsphinx' language model from the target text of training."""
    tasks.add("asr", _build_asr, corpus, sentences, done=(corpus / ASR).exists())


def _build_asr(corpus: Path, sentences: Sequence[str]) -> None:
    from raystt.recognition.sphinx import PocketSphinx

    with replacing(corpus / ASR) as folder:
        PocketSphinx.build(sentences, folder)


def add_base(tasks: Tasks, corpus: Path, config: CorpusConfig, card: Card, threads: int) -> None:
    """Submit the training of the text LM; `card` knows tokenizer, units and the `text` split."""
    done = (corpus / BASE).exists()
    tasks.add("base", _train_base, corpus, config, card, threads, done=done)


def _train_base(corpus: Path, config: CorpusConfig, card: Card, threads: int) -> None:
    from raystt.preparation.fit_base import pretrain_base

    note = note_progress(corpus, "base")
    with replacing(corpus / BASE) as folder:
        pretrain_base(
            corpus, card, config.base, folder, seed=config.seed, threads=threads,
            on_step=lambda step, steps, loss: note(step, steps),
        )  # fmt: skip
