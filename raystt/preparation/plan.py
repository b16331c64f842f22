"""The plan of a preparation: which files are missing, and what makes them.

utterances ─► (encoder) ─► units ─► shards ─┬─► vocoder
text ───────────────────────────────────────┼─► base      of the embedded corpus
  └─────────────────────────────────────────┴─► asr
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from raystt.cluster.capacity import encoder_bundles, make_room
from raystt.cluster.start import ray_session
from raystt.config import CorpusConfig, ResourcesConfig
from raystt.corpus.card import SIDES, Card, Part, TokenizerCard, UnitsCard
from raystt.files import write_atomic
from raystt.preparation import fit_units, merge, models, pipeline, rows
from raystt.preparation.files import WORK, config_hash, same_tables
from raystt.preparation.operators import Piece
from raystt.preparation.quality import QualityError, Quarantine
from raystt.preparation.sources import Embedded, Recordings, Source, Utterances, spoken_splits
from raystt.preparation.tasks import Progress, Tasks, note_progress
from raystt.readers.recordings import subset
from raystt.readers.utterance import NOWHERE, Quarantined
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
        BadInput: the reader cannot give what the config asks, or its tables have changed since a
            model was fitted to them.
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
        self._note_tables()
        self.quarantine = Quarantine(corpus / QUARANTINE)
        for language, split in (*spoken_splits(config), NOWHERE):
            self._set_aside(self.source.refused(language, split))

    def _note_tables(self) -> None:
        """Note of which tables the models will be, unless they are of others already."""
        note = self.corpus / WORK / "tables.json"
        if note.exists() and any((self.corpus / fitted).exists() for fitted in models.FITTED):
            same_tables(self.corpus, json.loads(note.read_text(encoding="utf-8")))
        write_atomic(note, json.dumps(self.source.tables, indent=1) + "\n")

    def run(self, until: str | None = None) -> None:
        """Make what is missing, all of it or what comes before the end of a stage.

        Args:
            until: "encoder", "units", "shards" or "vocoder"; None = make all.
        """
        for stage in self._stages(until):
            self.progress(stage, 0, 0)
        self.tokenizer = self.source.tokenizer(rows.units_card(self.config, 0.0).total)
        if self.embedded:
            self.embedded.write_text(self.tokenizer)
        with ray_session(self.resources, pools=False):
            make_room(encoder_bundles(self.resources), self.resources, self.on_message)
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
            self._fit_units(tasks)
            if until == "units":
                return
            self._write_shards(tasks)
            if until == "shards":
                return
            self._fit_models(tasks, until)

    def _stages(self, until: str | None) -> list[str]:
        """Return the stages that will be told of, in their order."""
        here = [
            ("text", self.embedded is not None),
            ("speech", self.embedded is not None),
            ("encoder", self.config.finetune is not None),
            ("units", self.config.units.codebook is None),
            ("k-means", self.config.units.codebook is None),
            ("shards", True),
            ("merge", True),
            ("vocoder", self.config.vocoder.kind == "conv"),
            ("asr", self.embedded is not None and until is None),
            ("base", self.embedded is not None and until is None),
        ]
        last = {"units": "k-means", "shards": "merge"}.get(until or "", until or "base")
        names = [name for name, _ in here]
        return [name for name, there in here[: names.index(last) + 1] if there]

    def _fit_units(self, tasks: Tasks) -> None:
        """Fit the codebooks that are missing to a sample of the training speech."""
        from raystt.speech.encoders import frame_seconds

        finetuned = models.finetuned(self.corpus, self.config)
        self.units = rows.units_card(
            self.config, frame_seconds(finetuned or self.config.units.encoder)
        )
        books = {book.path: book for book in (self.units.source, self.units.target)}
        missing = {path: b for path, b in books.items() if not (self.corpus / path).exists()}
        if self.config.units.codebook is not None:
            models.copy_codebooks(self.corpus, self.config, missing.values())
            return
        if not missing:
            return
        pieces = self._sample()
        self._stream(tasks, "units", pieces, pipeline.run_features, self.config, self.resources)
        rounds = fit_units.ITERATIONS * len(missing)
        made = itertools.count(1)
        for path, book in missing.items():
            sides = [side for side in SIDES if getattr(self.units, side) == book]
            fit_units.fit_codebook(
                self.corpus / path,
                [(Path(piece.path), side) for piece in pieces for side in sides],
                self.config, book.clusters,
                on_iteration=lambda *_: self.progress("k-means", next(made), rounds),
            )  # fmt: skip
        self.progress("k-means", rounds, rounds)  # it stops early where nothing moves any more

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
        self._stream(tasks, "shards", every, pipeline.run, self.config, self.units, self.resources)
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
        totals = {
            place: len(found) + len(self.source.refused(*place))
            for place, found in self.utterances.items()
        }
        unplaced = len(self.source.refused(*NOWHERE))
        self.quarantine.check(*NOWHERE, sum(totals.values()) + unplaced, self.config.quality)
        for (language, split), total in totals.items():
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
        return Card(
            fingerprint=fingerprint,
            reader=self.config.reader,
            config=self._asked.content(),
            tables=self.source.tables,
            unplaced=len(self.source.refused(*NOWHERE)),
            sample_rate=SAMPLE_RATE,
            target_language=self.config.target,
            languages=languages,
            transcribed=self.source.transcribed,
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

    def _stream(
        self, tasks: Tasks, stage: str, pieces: list[Piece], run: Callable[..., None], *args: Any
    ) -> None:
        """Run a pipeline over the parts that are missing.

        In a task: what Ray Data and Ray's core print as it starts then goes to Ray's logs.
        """
        missing = [piece for piece in pieces if not Path(piece.path).exists()]
        total, left = (sum(len(p.utterances) for p in some) for some in (pieces, missing))
        note, done = note_progress(self.corpus, stage), total - left

        def advance(utterances: int) -> None:
            nonlocal done
            done += utterances
            note(done, total)

        tasks.add(stage, run, done=True, amount=done)
        tasks.add(stage, run, missing, self.corpus, *args, advance,
                  done=not missing, amount=left, cpus=0.0)  # fmt: skip
        tasks.wait()

    def _transcripts(self) -> list[tuple[str, str]]:
        """Return (audio, text) of all training speech that has a transcript, both sides."""
        return [
            (recording.audio, recording.text)
            for language in self.languages
            for utterance in self.utterances[language, "train"]
            for recording in (utterance.source, utterance.target)
            if recording.text
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
