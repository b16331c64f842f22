"""The plan of a preparation: which files are missing, and the Ray tasks that make them.

text ─► speech ─► units ─► shards ─┬─► vocoder ─► ceiling (resynthesis)
  ├───────────────────────────────►├─► base
  └───────────────────────────────►└─► asr ─────► ceiling (audio)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from raystt.cluster.startup import ray_session
from raystt.config import CorpusConfig, ResourcesConfig
from raystt.corpus.card import Card, Part, ShardEntry
from raystt.preparation import models, rows, tokenizer
from raystt.preparation.chunks import PAIRS, chunk_path, chunk_starts, speak_chunk
from raystt.preparation.embedded import READERS
from raystt.preparation.files import config_hash
from raystt.speech import SAMPLE_RATE

Progress = Callable[[str, int, int], None]

SPOKEN = ("train", "dev", "test")
_LOOK_SECONDS = 0.5


class Plan:
    """One preparation; `run` does what is left of it."""

    def __init__(
        self, corpus: Path, config: CorpusConfig, resources: ResourcesConfig, progress: Progress
    ) -> None:
        """Draw all sentences and name all files.

        Raises:
            PrepareError: the reader cannot give what the config asks.
        """
        self.corpus = corpus
        self.config = config
        self.resources = resources
        self.progress = progress
        # Sorted, so that the order in which a YAML names its languages changes nothing.
        self.languages = sorted(config.languages)
        reader = READERS[config.reader](config)
        self.ids = tokenizer.word_ids(reader.words())
        splits = [(lang, split) for lang in self.languages for split in (*SPOKEN, "text")]
        self.pairs = {key: reader.pairs(*key) for key in splits}
        self.entries = {
            key: rows.shard_entries(*key, len(pairs), config.shard_rows)
            for key, pairs in self.pairs.items()
        }

    def run(self) -> Card:
        """Make everything that is missing and return the card, not yet saved."""
        self._write_text()
        with ray_session(self.resources):
            tasks = _Tasks(self.corpus, self.progress)
            self._speak(tasks)
            self._encode(tasks)
            self._fit(tasks)
        return self._card()

    def _write_text(self) -> None:
        tokenizer.save(self.ids, self.corpus)
        for n, language in enumerate(self.languages, 1):
            for entry, _, pairs in self._shards(language, "text"):
                if not self._has(entry.path):
                    rows.write_text_shard(self.corpus, self.ids, language, entry, pairs)
            self.progress("text", n, len(self.languages))

    def _speak(self, tasks: _Tasks) -> None:
        books = rows.units_card(self.config)
        for language, split in self._spoken():
            wanted = not all(self._has(entry.path) for entry in self.entries[language, split])
            if split == "train":
                files = (books.source.path, books.target.path, models.VOCODER)
                wanted = wanted or not all(map(self._has, files))
            if split == models.CEILING_SPLIT:
                wanted = wanted or not models.ceiling_path(self.corpus, language, "audio").exists()
            pairs = self.pairs[language, split]
            for start in chunk_starts(len(pairs)) if wanted else ():
                part = pairs[start : start + PAIRS]
                here = chunk_path(self.corpus, language, split, start).exists()
                args = (self.corpus, self.config, language, split, start, part)
                tasks.add("speech", speak_chunk, *args, amount=len(part), done=here)
        tasks.wait()

    def _encode(self, tasks: _Tasks) -> None:
        sizes = {lang: len(self.pairs[lang, "train"]) for lang in self.languages}
        books = rows.units_card(self.config)
        for side in ("source", "target"):
            done = self._has(getattr(books, side).path)
            tasks.add("units", rows.fit_codebook, self.corpus, self.config, side, sizes, done=done)
        tasks.wait()
        for language, split in self._spoken():
            for entry, start, pairs in self._shards(language, split):
                args = (self.corpus, self.config, self.ids, language, split, entry, start, pairs)
                done = self._has(entry.path)
                tasks.add("shards", rows.write_speech_shard, *args, done=done)
        tasks.wait()

    def _fit(self, tasks: _Tasks) -> None:
        """Fit vocoder, base and recogniser side by side, then measure what they allow."""
        corpus, config, threads = self.corpus, self.config, self.resources.threads_per_worker
        train = {lang: self.entries[lang, "train"] for lang in self.languages}
        vocoder = tasks.add(
            "vocoder", models.fit_vocoder, corpus, config, train, threads,
            done=self._has(models.VOCODER),
        )  # fmt: skip
        sentences = [p.target for key in self.pairs if key[1] in ("train", "text")
                     for p in self.pairs[key]]  # fmt: skip
        asr = tasks.add("asr", models.build_asr, corpus, sentences, done=self._has(models.ASR))
        known = self._describe({
            lang: {"text": rows.count(corpus, self.entries[lang, "text"])}
            for lang in self.languages
        })  # fmt: skip
        tasks.add(
            "base", models.train_base, corpus, config, known, threads, done=self._has(models.BASE)
        )
        for kind in models.CEILING_KINDS:
            after = (asr,) if kind == "audio" else (asr, vocoder)
            for language in self.languages:
                entries = self.entries[language, models.CEILING_SPLIT]
                done = models.ceiling_path(corpus, language, kind).exists()
                args = (corpus, config, entries, language, kind, *after)
                tasks.add("ceiling", models.measure_ceiling, *args, done=done)
        tasks.wait()

    def _card(self) -> Card:
        counted = {
            lang: {
                split: rows.count(self.corpus, self.entries[lang, split])
                for split in (*SPOKEN, "text")
            }
            for lang in self.languages
        }
        ceilings = {
            lang: models.ceiling(self.corpus, lang, self.config.seed) for lang in self.languages
        }
        return self._describe(counted, ceiling=ceilings, fingerprint=self._fingerprint())

    def _describe(self, languages: dict[str, Any], **more: Any) -> Card:
        return Card(
            **{"fingerprint": "", **more},
            reader=self.config.reader,
            config=corpus_config(self.config),
            sample_rate=SAMPLE_RATE,
            target_language=self.config.target,
            languages=languages,
            tokenizer=tokenizer.card_of(self.ids),
            units=rows.units_card(self.config),
            vocoder=Part(self.config.vocoder, models.VOCODER),
            asr=Part(models.RECOGNIZER, models.ASR),
            base=models.BASE,
        )

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(config_hash(corpus_config(self.config)).encode())
        for entries in self.entries.values():
            for entry in entries:
                digest.update(hashlib.sha256((self.corpus / entry.path).read_bytes()).digest())
        return digest.hexdigest()[:16]

    def _shards(self, language: str, split: str) -> Iterable[tuple[ShardEntry, int, Any]]:
        """Yield (shard, first pair, pairs) of a split."""
        start = 0
        for entry in self.entries[language, split]:
            yield entry, start, self.pairs[language, split][start : start + entry.rows]
            start += entry.rows

    def _spoken(self) -> list[tuple[str, str]]:
        return [(lang, split) for lang in self.languages for split in SPOKEN]

    def _has(self, path: str) -> bool:
        return (self.corpus / path).exists()


class _Tasks:
    """Ray tasks of one CPU each, and the progress of their stages."""

    def __init__(self, corpus: Path, progress: Progress) -> None:
        self._corpus = corpus
        self._progress = progress
        self._pending: dict[Any, tuple[str, int]] = {}
        self._done: dict[str, int] = {}
        self._total: dict[str, int] = {}

    def add(
        self, stage: str, function: Callable[..., None], *args: Any, done: bool, amount: int = 1
    ) -> Any:
        """Submit a task unless it is done; return what a later task can take to wait for it."""
        import ray

        self._total[stage] = self._total.get(stage, 0) + amount
        self._done.setdefault(stage, 0)
        if done:
            self._done[stage] += amount
            return None
        reference = ray.remote(num_cpus=1)(function).remote(*args)
        self._pending[reference] = (stage, amount)
        return reference

    def wait(self) -> None:
        """Wait for all tasks; the first that fails raises its own error."""
        import ray
        from ray.exceptions import RayTaskError

        for stage, total in self._total.items():
            self._progress(stage, self._done[stage], total)
        while self._pending:
            ready, _ = ray.wait(list(self._pending), num_returns=1, timeout=_LOOK_SECONDS)
            for reference in ready:
                try:
                    ray.get(reference)
                except RayTaskError as error:
                    # The worker's error says what to do; the traceback of its process does not.
                    raise (error.cause if isinstance(error.cause, Exception) else error) from None
                stage, amount = self._pending.pop(reference)
                self._done[stage] += amount
                self._progress(stage, self._done[stage], self._total[stage])
            self._look()
        self._total.clear()
        self._done.clear()

    def _look(self) -> None:
        """Pass on the steps that long tasks note in files."""
        for stage, _ in set(self._pending.values()):
            try:
                note = models.progress_path(self._corpus, stage).read_text(encoding="utf-8")
            except FileNotFoundError:
                continue
            step, steps = json.loads(note)
            if step < steps:
                self._progress(stage, step, steps)


def corpus_config(config: CorpusConfig) -> dict[str, Any]:
    """Return what decides the contents of a corpus: its config without the directory."""
    return config.model_dump(mode="json", exclude={"path"})
