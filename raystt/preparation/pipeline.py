"""The Ray Data pipeline: recordings to rows, part by part.

    parts ─► decode, resample, judge ─► encode, assign, align (actors) ─► tokenise, write

A part is some utterances of a split in the reader's order. It is one row of the dataset, so that no
operator cuts or joins parts, and one file of the result: what is there is not made again. The same
part gives the same bytes wherever and in whatever order it is worked on.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from raystt.config import CorpusConfig, ResourcesConfig
from raystt.corpus.card import UnitsCard
from raystt.preparation.operators import Decoder, Featurizer, Listener, Piece, Writer
from raystt.readers.utterance import Recording, Utterance

UTTERANCES = 64
"""Utterances of a part: some ten megabytes of audio."""

_STORE_BYTES = 512 << 20
"""Audio in flight for each encoder; without a bound, a fast decoder would fill the memory."""

_DECODERS_CPUS = 0.5


def cut(directory: Path, utterances: Sequence[Utterance], suffix: str = ".parquet") -> list[Piece]:
    """Cut utterances into parts of `UTTERANCES`, each with its file in `directory`.

    The name of the file says what the part holds: one of rows that were edited or of recordings
    that were replaced since is not used.
    """
    pieces = []
    for start in range(0, len(utterances), UTTERANCES):
        some = tuple(utterances[start : start + UTTERANCES])
        name = f"{start:08d}-{_digest(some)}{suffix}"
        pieces.append(Piece(str(directory / name), some))
    return pieces


def _digest(utterances: Sequence[Utterance]) -> str:
    held = [[u.id, _content(u.source), _content(u.target)] for u in utterances]
    return hashlib.blake2b(json.dumps(held).encode(), digest_size=6).hexdigest()


def _content(recording: Recording) -> list[Any]:
    """Tell a recording from another, or from what its file was before."""
    if recording.marks is not None:  # the text says it all: it was spoken here
        return [recording.text]
    try:
        file = os.stat(recording.audio)
    except OSError:
        return [recording.text, recording.audio]
    return [recording.text, recording.audio, file.st_size, file.st_mtime_ns]


def run(
    pieces: Sequence[Piece],
    corpus: Path,
    config: CorpusConfig,
    units: UnitsCard,
    resources: ResourcesConfig,
    on_done: Callable[[int], None],
) -> None:
    """Turn parts into files of rows.

    Args:
        pieces: parts whose files are missing.
        corpus: directory of the corpus, with codebooks and tokenizer.
        config: its config.
        units: its codebooks.
        resources: how many encoders, and what each of them takes.
        on_done: told how many utterances a finished part had.

    Raises:
        BadInput: the error of the worker that failed.
    """
    _stream(
        pieces, config, resources,
        actor=Listener, arguments=(corpus, config, units, resources),
        last=Writer(corpus, units), on_done=on_done,
    )  # fmt: skip


def run_features(
    pieces: Sequence[Piece],
    corpus: Path,
    config: CorpusConfig,
    resources: ResourcesConfig,
    on_done: Callable[[int], None],
) -> None:
    """Write the encoder's features of parts: an .npz each, `source` and `target` [frames, dim]."""
    _stream(
        pieces, config, resources,
        actor=Featurizer, arguments=(corpus, config, resources),
        last=None, on_done=on_done,
    )  # fmt: skip


def _stream(
    pieces: Sequence[Piece],
    config: CorpusConfig,
    resources: ResourcesConfig,
    *,
    actor: type,
    arguments: tuple[Any, ...],
    last: Callable[[dict[str, Any]], dict[str, Any]] | None,
    on_done: Callable[[int], None],
) -> None:
    import ray
    from ray.data import ActorPoolStrategy, ExecutionResources

    context = ray.data.DataContext.get_current().copy()
    context.execution_options.resource_limits = ExecutionResources(
        object_store_memory=_STORE_BYTES * resources.encoders
    )
    amounts = {piece.path: len(piece.utterances) for piece in pieces}
    with ray.data.DataContext.current(context):
        dataset = ray.data.from_items(
            [{"piece": piece} for piece in pieces], override_num_blocks=len(pieces)
        )
        dataset = dataset.map(Decoder(config), num_cpus=_DECODERS_CPUS)
        dataset = dataset.map(
            actor,
            fn_constructor_args=arguments,
            compute=ActorPoolStrategy(size=resources.encoders),
            num_cpus=resources.cpus_per_encoder,
            num_gpus=resources.gpus_per_encoder,
        )
        if last is not None:
            dataset = dataset.map(last, num_cpus=_DECODERS_CPUS)
        for done in _own_errors(dataset.iter_rows()):
            on_done(amounts[done["path"]])


def _own_errors(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Raise the worker's own error: it says what to do; the traceback of its process does not."""
    from raystt.errors import BadInput

    try:
        yield from rows
    except Exception as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, BadInput):
                raise cause from None
            cause = getattr(cause, "cause", None) or cause.__cause__
        raise
