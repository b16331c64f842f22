"""The plan of a preparation: which files are missing, and what makes them.

utterances ─► (encoder) ─► units ─► shards ─┬─► vocoder
text ───────────────────────────────────────┼─► base      of the embedded corpus
  └─────────────────────────────────────────┴─► asr
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from raystt.cluster.start import check_encoders, ray_session
from raystt.config import CorpusConfig, ResourcesConfig
from raystt.corpus.card import Card, Part, TokenizerCard, UnitsCard
from raystt.preparation import fit_units, merge, models, pipeline, rows
from raystt.preparation.files import WORK, config_hash
from raystt.preparation.operators import Piece
from raystt.preparation.quality import QualityError, Quarantine
from raystt.preparation.sources import Embedded, Recordings, Source, Utterances, spoken_splits
from raystt.preparation.tasks import Progress, Tasks
from raystt.readers.recordings import subset
from raystt.readers.utterance import Quarantined
from raystt.speech import SAMPLE_RATE

QUARANTINE = "quarantine.jsonl"


class Plan:
    """One preparation; `run` does what is left of it.

    Args:
        corpus: directory of the corpus.
        config: what to prepare.
        resources: the Ray to start or join.
        progress: told (stage, done, total).
        on_message: told single events.

    Raises:
        BadInput: the reader cannot give what the config asks, or too many of its rows are bad.
    """

    tokenizer: TokenizerCard
    units: UnitsCard
    utterances: Utterances

    def __init__(
        self, corpus: Path, config: CorpusConfig, resources: ResourcesConfig, progress: Progress,
        on_message: Callable[[str], None],
    ) -> None:  # fmt: skip
        self.corpus = corpus
        self._asked = config
        self.config = _resolved(config)
        self.resources = resources
        self.progress = progress
        self.on_message = on_message
        self.languages = sorted(config.languages)
        self.embedded = Embedded(corpus, config, progress) if config.reader == "embedded" else None
        self.source: Source = self.embedded or Recordings(corpus, config)
        self.quarantine = Quarantine(corpus / QUARANTINE)
        for language, split in spoken_splits(config):
            self._set_aside(self.source.refused(language, split))

    def run(self, until: str | None = None) -> None:
        """Make what is missing, all of it or what comes before the end of a stage.

        Args:
            until: "encoder", "units", "shards" or "vocoder"; None = make all.
        """
        self.tokenizer = self.source.tokenizer(rows.units_card(self.config, 0.0).total)
        if self.embedded:
            self.embedded.write_text(self.tokenizer)
        with ray_session(self.resources, pools=False):
            check_encoders(self.resources)
            tasks = Tasks(self.corpus, self.progress)
            self.utterances = self.source.utterances(tasks)
            self._check_shares()
            if self.config.finetune:
                wanted = [] if (self.corpus / models.ENCODER).exists() else self._transcripts()
                models.add_encoder(tasks, self.corpus, self.config, wanted, self.resources)
                tasks.wait()
                from raystt.preparation.fit_encoder import outcome

                self.on_message(outcome(self.corpus / models.ENCODER))
            if until == "encoder":
                return
            self._fit_units()
            if until == "units":
                return
            self._write_shards(tasks)
            if until == "shards":
                return
            self._fit_models(tasks, until)

    def _fit_units(self) -> None:
        """Fit the codebooks that are missing to a sample of the training speech."""
        from raystt.speech.encoders import frame_seconds

        finetuned = models.finetuned(self.corpus, self.config)
        self.units = rows.units_card(self.config, frame_seconds(self.config.units, finetuned))
        books = {book.path: book for book in (self.units.source, self.units.target)}
        missing = {path: b for path, b in books.items() if not (self.corpus / path).exists()}
        if self.config.units.codebook is not None:
            models.copy_codebooks(self.corpus, self.config, missing.values())
            return
        if not missing:
            return
        pieces = self._sample()
        advance = self._advance("units", pieces)
        pipeline.run_features(
            [piece for piece in pieces if not Path(piece.path).exists()],
            corpus=self.corpus, config=self.config, resources=self.resources, on_done=advance,
        )  # fmt: skip
        for path, book in missing.items():
            sides = [side for side in rows.SIDES if getattr(self.units, side) == book]
            fit_units.fit_codebook(
                self.corpus / path,
                [(Path(piece.path), side) for piece in pieces for side in sides],
                self.config, book.clusters,
                on_iteration=lambda done, total: self.progress("k-means", done, total),
            )  # fmt: skip

    def _sample(self) -> list[Piece]:
        """Cut what k-means is fitted to into parts, in equal shares of each language."""
        share = -(-self.config.units.sample // len(self.languages))
        train = [self.utterances[language, "train"] for language in self.languages]
        sample = [utterance for found in train for utterance in subset(found, share)]
        return pipeline.cut(self.corpus / WORK / "features", sample, ".npz")

    def _write_shards(self, tasks: Tasks) -> None:
        """Run the pipeline over all parts that are missing, and merge them."""
        pieces = {place: self._parts(*place) for place in spoken_splits(self.config)}
        stale = [place for place, parts in pieces.items() if not self._is_merged(place, parts)]
        every = [piece for place in stale for piece in pieces[place]]
        advance = self._advance("shards", every)
        pipeline.run(
            [piece for piece in every if not Path(piece.path).exists()],
            corpus=self.corpus, config=self.config, units=self.units, resources=self.resources,
            on_done=advance,
        )  # fmt: skip
        for language, split in stale:
            paths = [Path(piece.path) for piece in pieces[language, split]]
            refused = [one for path in paths for one in merge.quarantined(path)]
            args = (self.corpus, paths, language, split, self.config.shard_rows, refused)
            tasks.add("merge", merge.merge, *args, done=False)
        tasks.wait()
        for language, split in pieces:
            done = merge.merged(self.corpus, language, split)
            assert done is not None
            self._set_aside(done.quarantined)
        self._check_shares()

    def _parts(self, language: str, split: str) -> list[Piece]:
        directory = self.corpus / WORK / "parts" / language / split
        return pipeline.cut(directory, self.utterances[language, split])

    def _is_merged(self, place: tuple[str, str], parts: list[Piece]) -> bool:
        done = merge.merged(self.corpus, *place)
        return done is not None and list(done.parts) == [Path(p.path).stem for p in parts]

    def _set_aside(self, refused: Iterable[Quarantined]) -> None:
        for one in refused:
            self.quarantine.add(one)

    def _check_shares(self) -> None:
        """Write down what was set aside, and refuse the corpus if it is too much.

        Raises:
            QualityError: naming the share, the file with the reasons, and the key.
        """
        self.quarantine.write()
        for (language, split), found in self.utterances.items():
            total = len(found) + len(self.source.refused(language, split))
            try:
                self.quarantine.check(language, split, total, self.config.quality)
            except QualityError:
                # The rows may be mended before the next attempt: it must look at them again.
                paths = [Path(piece.path) for piece in self._parts(language, split)]
                merge.forget(self.corpus, paths, language, split)
                raise

    def _fit_models(self, tasks: Tasks, until: str | None) -> None:
        """Fit the vocoder, and beside it what the embedded corpus has for pretrained models."""
        corpus, config = self.corpus, self.config
        train = {}
        for language in self.languages:
            done = merge.merged(corpus, language, "train")
            assert done is not None
            train[language] = (done.shards, self.utterances[language, "train"])
        models.add_vocoder(tasks, corpus, config, self.units, train, self.resources)
        if self.embedded and until is None:
            sentences = [
                pair.target
                for (_, split), pairs in self.embedded.pairs.items()
                if split in ("train", "text")
                for pair in pairs
            ]
            models.add_asr(tasks, corpus, sentences)
            card = self._describe({lang: self._text(lang) for lang in self.languages})
            models.add_base(tasks, corpus, config, card, self.resources.threads_per_worker)
        tasks.wait()

    def card(self) -> Card:
        """Return the card of what `run` made, not yet saved."""
        counted: dict[str, dict[str, Any]] = {language: {} for language in self.languages}
        for language, split in spoken_splits(self.config):
            done = merge.merged(self.corpus, language, split)
            assert done is not None
            refused = len(done.quarantined) + len(self.source.refused(language, split))
            counted[language][split] = rows.count(self.corpus, done.shards, refused)
        for language in self.languages:
            counted[language] |= self._text(language)
        return self._describe(counted, fingerprint=self._fingerprint(counted))

    def _text(self, language: str) -> dict[str, Any]:
        if self.embedded is None:
            return {}
        return {"text": rows.count(self.corpus, self.embedded.text_shards(language), 0)}

    def _describe(self, languages: dict[str, Any], fingerprint: str = "") -> Card:
        texts = (u.source_text for found in self.utterances.values() for u in found)
        return Card(
            fingerprint=fingerprint,
            reader=self.config.reader,
            config=self._asked.content(),
            sample_rate=SAMPLE_RATE,
            target_language=self.config.target,
            languages=languages,
            transcribed=all(text is not None for text in texts),
            tokenizer=self.tokenizer,
            units=self.units,
            vocoder=Part(self.config.vocoder.kind, models.VOCODER),
            asr=Part(models.RECOGNIZER, models.ASR) if self.embedded else None,
            base=models.BASE if self.embedded else None,
        )

    def _fingerprint(self, counted: dict[str, dict[str, Any]]) -> str:
        digest = hashlib.sha256(config_hash(self._asked.content()).encode())
        for language in self.languages:
            for split in counted[language].values():
                for entry in split.shards:
                    with (self.corpus / entry.path).open("rb") as file:
                        digest.update(hashlib.file_digest(file, "sha256").digest())
        return digest.hexdigest()[:16]

    def _advance(self, stage: str, pieces: list[Piece]) -> Callable[[int], None]:
        """Tell how many utterances of a stage are done, and return what tells of more."""
        total = sum(len(piece.utterances) for piece in pieces)
        done = sum(len(piece.utterances) for piece in pieces if Path(piece.path).exists())
        self.progress(stage, done, total)

        def advance(utterances: int) -> None:
            nonlocal done
            done += utterances
            self.progress(stage, done, total)

        return advance

    def _transcripts(self) -> list[tuple[str, str]]:
        """Return (audio, text) of all training speech that has a transcript, both sides."""
        return [
            (getattr(utterance, f"{side}_audio"), text)
            for language in self.languages
            for utterance in self.utterances[language, "train"]
            for side in rows.SIDES
            if (text := getattr(utterance, f"{side}_text"))
        ]


def _resolved(config: CorpusConfig) -> CorpusConfig:
    """Make the directories of models absolute: workers do not run where this process does."""

    def absolute(name: str | None) -> str | None:
        return str(Path(name).resolve()) if name and Path(name).exists() else name

    changes = {
        part: getattr(config, part).model_copy(
            update={key: absolute(getattr(getattr(config, part), key)) for key in keys}
        )
        for part, keys in {
            "units": ("encoder", "codebook"), "alignment": ("model",), "vocoder": ("model",),
        }.items()
    }  # fmt: skip
    return config.model_copy(update={**changes, "tokenizer": absolute(config.tokenizer)})
