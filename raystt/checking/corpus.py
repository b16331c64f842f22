"""Check the corpus of a config: its languages, and the prepared files if there are any."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from raystt.config.corpus import CorpusConfig
from raystt.config.run import RunBase
from raystt.config.validation import nearest
from raystt.corpus.card import FILE_NAME, Card, CardError
from raystt.readers.grammar import LEXICONS
from raystt.strict import Complaint

PATH = ("corpus", "path")


def prepared(corpus: CorpusConfig) -> bool:
    """Say whether the corpus has its card, which is written last."""
    return (Path(corpus.path) / FILE_NAME).exists()


def grammar(corpus: CorpusConfig) -> Iterator[Complaint]:
    """See that the embedded corpus can be written in these languages."""
    for language in corpus.languages:
        at = ("corpus", "languages", language)
        if language == corpus.target:
            fix = "remove it, or change corpus.target"
            yield Complaint(at, f"{language!r} is the target language too", fix)
        elif language not in LEXICONS:
            fix = nearest(language, [name for name in LEXICONS if name != corpus.target])
            yield Complaint(at, f"the embedded corpus has no language {language!r}", fix)
    if corpus.target not in LEXICONS:
        reason = f"the embedded corpus has no language {corpus.target!r}"
        yield Complaint(("corpus", "target"), reason, nearest(corpus.target, LEXICONS))


def absent(corpus: CorpusConfig) -> Iterator[str]:
    """Name the sources that are not on this machine; `prepare` refuses, a check only notes it.

    Of a template with `{language}` the first language stands for all.
    """
    if corpus.reader == "embedded":
        return
    first = next(iter(corpus.languages))
    names = ("manifest",) if corpus.reader == "manifest" else ("common_voice", "covost", "cvss")
    for name in names:
        path = str(getattr(corpus.sources, name)).replace("{language}", first)
        if not Path(path).exists():
            yield f"corpus.sources.{name}: {path} is not on this machine"


def unfit(base: RunBase) -> Iterator[Complaint]:
    """Refuse what only the embedded corpus has, of another reader."""
    reader = base.corpus.reader
    if reader == "embedded":
        return
    if base.model.base == "corpus":
        reason = f"`corpus` is the text LM of the embedded corpus, `reader: {reader}` has none"
        fix = "name a pretrained one, the one that corpus.tokenizer belongs to"
        yield Complaint(("model", "base"), reason, fix)
    if base.evaluation.asr == "pocketsphinx":
        reason = f"no pocketsphinx is fitted to a corpus of `reader: {reader}`"
        yield Complaint(("evaluation", "asr"), reason, "choose from: whisper, fairseq-wav2vec2")
    if base.corpus.target in base.corpus.languages:
        at = ("corpus", "languages", base.corpus.target)
        reason = f"{base.corpus.target!r} is the target language too"
        yield Complaint(at, reason, "remove it, or change corpus.target")


def models(base: RunBase) -> Iterator[tuple[tuple[str, ...], str, bool]]:
    """Go through the pretrained models of a config that are no directories here.

    Yields:
        Where it stands, its name, and whether it is written as a path, so that it is missing.
    """
    corpus = base.corpus
    for location, name, own in (
        (("model", "base"), base.model.base, "corpus"),
        (("corpus", "tokenizer"), corpus.tokenizer, None),
        (("corpus", "units", "encoder"), corpus.units.encoder, "mfcc"),
        (("corpus", "alignment", "model"), corpus.alignment.model, None),
        (("corpus", "vocoder", "model"), corpus.vocoder.model, None),
        (("evaluation", "asr_model"), base.evaluation.asr_model, None),
    ):
        if name is not None and name != own and not Path(name).is_dir():
            yield location, name, name.startswith((".", "/", "~"))


def load(corpus: CorpusConfig, prepare: str) -> tuple[Card | None, list[Complaint]]:
    """Load the card of a prepared corpus and compare it with the config.

    Args:
        corpus: the corpus as the config asks for it.
        prepare: what to do to have it prepared, such as "run `raystt prepare FILE`".

    Returns:
        The card, None if it is no use, and what is wrong.
    """
    directory = Path(corpus.path)
    try:
        card = Card.load(directory)
    except CardError as error:
        reason, _, fix = str(error).rpartition("; ")
        return None, [Complaint(PATH, reason or fix, fix if reason else prepare)]
    complaints = []
    held, asked = _flat(card.config), _flat(corpus.content())
    for key in sorted(held.keys() | asked.keys()):
        there, here = held.get(key, "nothing"), asked.get(key, "nothing")
        if there != here:
            reason = f"the corpus in {directory} was prepared with {there}, here it is {here}"
            fix = f"set another corpus.path, or delete {directory} to prepare it anew"
            complaints.append(Complaint(("corpus", *key), reason, fix))
    return (None if complaints else card), complaints


def files(
    card: Card, directory: Path, languages: Sequence[str], prepare: str
) -> Iterator[Complaint]:
    """Look for all that the card names; shards by their footers alone (see `load`)."""
    for language in languages:
        if language not in card.languages:
            reason = f"{directory / FILE_NAME} has no language {language!r}"
            yield Complaint(PATH, reason, prepare)
            continue
        yield from _shards(card, directory, language, prepare)
    shards = {
        directory / shard.path
        for splits in card.languages.values()
        for split in splits.values()
        for shard in split.shards
    }
    for missing in card.missing(directory):
        if missing not in shards:
            yield Complaint(PATH, f"{missing}, which the card names, is missing", prepare)


def _shards(card: Card, directory: Path, language: str, prepare: str) -> Iterator[Complaint]:
    # here and not above: a corpus that is not prepared needs no pyarrow, a third of a second
    import pyarrow as pa
    import pyarrow.parquet as pq

    for name, split in card.languages[language].items():
        for shard in split.shards:
            path = directory / shard.path
            which = f"the shard {path} (language {language}, split {name})"
            try:
                rows = pq.read_metadata(path).num_rows
            except FileNotFoundError:
                yield Complaint(PATH, f"{which} is missing", prepare)
            except (OSError, pa.ArrowException) as error:
                reason = f"{which} is not readable ({error})"
                yield Complaint(PATH, reason, f"delete it and {prepare}")
            else:
                if rows != shard.rows:
                    reason = f"{which} has {rows} rows, the card says {shard.rows}"
                    yield Complaint(PATH, reason, f"delete it and {prepare}")


def _flat(tree: dict[str, Any], above: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    flat: dict[tuple[str, ...], Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict):
            flat |= _flat(value, (*above, key))
        else:
            flat[(*above, key)] = value
    return flat
