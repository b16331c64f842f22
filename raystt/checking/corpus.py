"""What a config needs of this machine: a corpus or its recordings, models, and room to write."""

from __future__ import annotations

import glob
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from raystt import remote
from raystt.config import CorpusConfig, RunBase
from raystt.config.changes import changed
from raystt.config.corpus import SPLITS
from raystt.config.validation import nearest
from raystt.corpus.card import FILE_NAME, Card, CardError
from raystt.files import edited
from raystt.hub import MODEL_CONFIG, cached, pinned
from raystt.readers.embedded import SOURCE_VOICES, TARGET_VOICES
from raystt.readers.recordings import open_reader
from raystt.readers.tables import ReaderError
from raystt.recognition.protocols import PROTOCOLS
from raystt.speech import MFCC
from raystt.strict import Complaint, Location

PATH = ("corpus", "path")
_MEND = "mend the rows, or raise corpus.quality.max_quarantined"


def prepared(corpus: CorpusConfig) -> bool:
    """Say whether the corpus has its card, which is written last."""
    directory = remote.local(corpus.path)
    with suppress(OSError, remote.NoStore):  # told where it is looked whether it can be written to
        remote.fetch(directory, FILE_NAME)
    return (directory / FILE_NAME).exists()


def unfit(base: RunBase) -> Iterator[Complaint]:
    """Refuse languages, a base model or a recogniser that the corpus does not go with."""
    corpus, asr, model = base.corpus, base.evaluation.asr, base.evaluation.asr_model
    target, reader = corpus.target, f"`reader: {corpus.reader}`"
    own, fitted = corpus.reader == "embedded", PROTOCOLS[asr].model is None
    places: dict[str, Location] = {one: ("corpus", "languages", one) for one in corpus.languages}
    if target in places:
        reason = f"{target!r} is the target language too"
        yield Complaint(places[target], reason, "remove it, or change corpus.target")
    if own and target not in TARGET_VOICES:
        fix = nearest(target, list(TARGET_VOICES))
        yield Complaint(("corpus", "target"), f"the embedded corpus has no target {target!r}", fix)
    for language, at in places.items() if own else ():
        if language not in (*SOURCE_VOICES, target):
            fix = nearest(language, list(SOURCE_VOICES))
            yield Complaint(at, f"the embedded corpus has no language {language!r}", fix)
    if base.model.base == "corpus" and not own:
        reason = f"`corpus` is the text LM of the embedded corpus, {reader} has none"
        fix = "name a pretrained one, the one that corpus.tokenizer belongs to"
        yield Complaint(("model", "base"), reason, fix)
    if fitted and not own:
        reason = f"no {asr} is fitted to a corpus of {reader}"
        yield Complaint(("evaluation", "asr"), reason, "choose from: whisper, fairseq-wav2vec2")
    elif fitted and model is not None:
        reason = f"`asr: {asr}` is fitted to the corpus and takes no model"
        yield Complaint(("evaluation", "asr_model"), reason, "remove it, or set `asr: whisper`")
    if asr == "fairseq-wav2vec2" and model is None and target != "en":
        reason = f"its model hears English, the corpus speaks {target!r}"
        fix = "name one of that language in evaluation.asr_model"
        yield Complaint(("evaluation", "asr"), reason, fix)


def sources(corpus: CorpusConfig) -> tuple[dict[tuple[str, str], int], bool, list[Complaint]]:
    """Read the tables of recordings as `prepare` will; no audio is opened.

    Returns:
        Usable pairs by language and split, whether the source speech has text, and what is wrong.
    """
    found: dict[tuple[str, str], int] = {}
    rows = 0
    transcribed, wrong = True, list(_absent(corpus))
    if wrong:
        return found, transcribed, wrong
    reader = open_reader(corpus)
    for language, sizes in corpus.languages.items():
        for split in SPLITS:
            try:
                usable, refused = reader.read(language, split)
            except ReaderError as error:
                reason, _, fix = str(error).rpartition("; ")
                wrong.append(Complaint(("corpus", "sources"), reason, fix))
                break  # the other splits would say much the same
            rows += len(usable) + len(refused)
            total, bare = len(usable) + len(refused), sum(u.source.text is None for u in usable)
            if 2 * bare > len(usable):
                transcribed, bare = False, 0
            bad = len(refused) + bare  # of few without text among others `prepare` makes no use
            if corpus.quality.refuses(bad, total):
                reason = f"{bad} of {total} rows of {split} cannot be used"
                reason += f"; {refused[0].place}: {refused[0].reason}" if refused else ": no text"
                wrong.append(Complaint(("corpus", "languages", language), reason, _MEND))
            found[language, split] = min(total - bad, getattr(sizes, split) or total)
    lost = [] if wrong else reader.unplaced()
    if corpus.quality.refuses(len(lost), rows + len(lost)):
        reason = f"{len(lost)} of {rows + len(lost)} rows cannot be used"
        reason += f"; {lost[0].place}: {lost[0].reason}"
        wrong.append(Complaint(("corpus", "sources"), reason, _MEND))
    return found, transcribed, wrong


def _absent(corpus: CorpusConfig) -> Iterator[Complaint]:
    """Name the sources that are not there; one language stands for all of them."""
    names = ("manifest",) if corpus.reader == "manifest" else ("common_voice", "covost", "cvss")
    for name in names:
        template = str(getattr(corpus.sources, name)).replace("{target}", corpus.target)
        for language in corpus.languages:
            # the star: CVSS has zh where Common Voice has zh-CN
            pattern = glob.escape(template).replace("{language}", f"{language}*")
            if not glob.glob(pattern):
                reason = f"{template.replace('{language}', language)} is not on this machine"
                fix = "put it there, or correct the path"
                yield Complaint(("corpus", "sources", name), reason, fix)
                break


def models(base: RunBase) -> Iterator[tuple[tuple[str, ...], str, str | None, str | None]]:
    """Go through the pretrained models that are still to be loaded.

    Yields:
        Where it stands, its name, why it can be none, and why it may not be found.
    """
    corpus, evaluation = base.corpus, base.evaluation
    names = {
        ("model", "base"): base.model.base,
        ("corpus", "vocoder", "model"): corpus.vocoder.model,
        ("evaluation", "asr_model"): evaluation.asr_model or PROTOCOLS[evaluation.asr].model,
    }
    if not prepared(corpus):
        names["corpus", "tokenizer"] = corpus.tokenizer
        names["corpus", "units", "encoder"] = corpus.units.encoder
        names["corpus", "alignment", "model"] = corpus.alignment.model
    switches = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    on = [key for key in switches if os.environ.get(key, "").upper() in ("1", "ON", "YES", "TRUE")]
    for at, name in names.items():
        if name is None or name in ("corpus", *MFCC):
            continue
        wrong = doubt = None
        place = Path(name)
        if place.is_dir():
            if at[-1] != "tokenizer" and not (place / MODEL_CONFIG).is_file():
                wrong = f"{name!r} has no config.json, so it holds no model"
        elif name.startswith((".", "/", "~")):
            wrong = f"there is no directory {name!r}"
        elif not re.fullmatch(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?", pinned(name)[0]):
            wrong = f"{name!r} is neither a directory nor of the hub's form ORGANISATION/NAME"
        elif place.parent != Path() and place.parent.is_dir():
            doubt = f"{name!r} is no directory, though {str(place.parent)!r} is one"
        elif on and not cached(name, MODEL_CONFIG):
            doubt = f"{name!r} is not in the hub's cache, and {on[0]} is set"
        yield at, name, wrong, doubt


def files_here(base: RunBase) -> Iterator[Complaint]:
    """Look for what is given as a file, and for room to write."""
    folders: dict[Location, str] = {("storage",): base.storage}
    given: dict[Location, str | None] = {("evaluation", "utmos"): base.evaluation.utmos}
    if not prepared(base.corpus):
        folders[PATH] = base.corpus.path
        given["corpus", "units", "codebook"] = base.corpus.units.codebook
    for at, name in given.items():
        if name is not None and not Path(name).is_file():
            yield Complaint(at, f"there is no file {name!r}", "correct the path, or remove the key")
    for at, path in folders.items():
        place = remote.local(path)
        if remote.is_url(path):
            try:
                wrong = remote.unwritable(place)
            except remote.NoStore as error:
                wrong = str(error)
            if wrong:
                yield Complaint(at, wrong, "name a bucket that can be written to")
            continue
        there = next(one for one in (place, *place.parents) if os.path.lexists(one))
        try:
            tempfile.TemporaryFile(dir=there).close()
        except OSError as error:
            reason = f"{there} cannot be written to ({error.strerror})"
            yield Complaint(at, reason, "name a directory that can be")


def load(corpus: CorpusConfig, prepare: str) -> tuple[Card | None, list[Complaint]]:
    """Load the card of a prepared corpus, compare it with the config, and look for its files.

    Args:
        corpus: the corpus as the config asks for it.
        prepare: what to do to have it prepared, such as "run `raystt prepare FILE`".

    Returns:
        The card, None if it is no use, and what is wrong.
    """
    directory = remote.local(corpus.path)
    try:
        card = Card.load(directory)
    except CardError as error:
        reason, _, fix = str(error).rpartition("; ")
        return None, [Complaint(PATH, reason, fix)]
    wrong = [
        Complaint(
            ("corpus", *change.key),
            f"the corpus in {corpus.path} was prepared with another value: {change}",
            f"set another corpus.path, or delete {corpus.path} to prepare it anew",
        )
        for change in changed(card.config, corpus.content())
    ] or [Complaint(PATH, reason, fix) for reason, fix in _faults(card, directory, prepare)]
    wrong += [
        Complaint(
            ("corpus", "sources"),
            f"{table} changed since {corpus.path} was prepared from it",
            f"set another corpus.path, or delete {corpus.path} to prepare it anew",
        )
        for table in edited(card.tables)
    ]
    return (None if wrong else card), wrong


def _faults(card: Card, directory: Path, prepare: str) -> Iterator[tuple[str, str]]:
    """Look for all that the card names; at shards by their footers alone."""
    # here and not above: a corpus that is not prepared needs no pyarrow, a third of a second
    import pyarrow as pa
    import pyarrow.parquet as pq

    shards = {
        directory / shard.path: (f"the shard {directory / shard.path} ({language}, {name})", shard)
        for language, splits in card.languages.items()
        for name, split in splits.items()
        for shard in split.shards
    }
    for path in card.missing(directory):
        which = shards.pop(path)[0] if path in shards else f"{path}, which the card names,"
        yield f"{which} is missing", prepare
    for path, (which, shard) in shards.items():
        try:
            rows = pq.read_metadata(path).num_rows
        except (OSError, pa.ArrowException) as error:
            yield f"{which} is not readable ({error})", f"delete it and {prepare}"
        else:
            if rows != shard.rows:
                reason = f"{which} has {rows} rows, the card says {shard.rows}"
                yield reason, f"delete it and {prepare}"
