"""The best score that vocoder and recogniser of a corpus allow, whatever the model.

Reference audio of an evaluation set is transcribed, and so is audio made again from its units. Both
are scored like any hypothesis. It is measured once for a set and a signature, and kept in the
corpus.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import soundfile

from raystt import remote
from raystt.corpus.rows import of_side
from raystt.corpus.shards import read_rows
from raystt.evaluation.jobs import Ceiling, CeilingJob
from raystt.evaluation.judge import Judge
from raystt.files import write_atomic
from raystt.readers.utterance import audio_path
from raystt.scores import asr_bleu


def measure_ceiling(judge: Judge, job: CeilingJob) -> Ceiling:
    """Measure the ceiling of an evaluation set, or return it if that was done.

    Raises:
        FileNotFoundError: the corpus has lost a recording.
    """
    rows = read_rows(judge.corpus, judge.card, job.language, job.split, job.config.sentences)
    names, target = rows["id"].to_pylist(), of_side(rows, "target")
    path = _path(judge, job, names)
    if path.exists():
        return Ceiling.of(json.loads(path.read_text(encoding="utf-8")))
    offset = judge.card.units.target.offset
    units = [np.array(unit) - offset for unit in target["units"].to_pylist()]
    recorded = [_recording(judge.corpus, job, name) for name in names]
    references = [judge.recogniser.normalise(text) for text in target["text"].to_pylist()]
    scores = {}
    for kind, waveforms in (
        ("audio", recorded),
        ("resynthesis", judge.voice(units)),
    ):
        statistics = judge.bleu.statistics(judge.hear(waveforms), references)
        # Reference audio passed no vocoder.
        signature = judge.sign("none") if kind == "audio" else judge.signature
        scores[kind] = asr_bleu(statistics, signature=signature, resamples=job.config.resamples)
    ceiling = Ceiling(job.split, scores["audio"], scores["resynthesis"])
    write_atomic(path, json.dumps(asdict(ceiling), indent=1) + "\n")
    remote.update(path)
    return ceiling


def _path(judge: Judge, job: CeilingJob, names: list[str]) -> Path:
    decides = [judge.card.fingerprint, judge.signature, names, job.config.resamples]
    key = hashlib.sha256(json.dumps(decides).encode()).hexdigest()[:12]
    return judge.corpus / "ceilings" / f"{job.language}-{job.split}-{key}.json"


def _recording(corpus: Path, job: CeilingJob, name: str) -> np.ndarray:
    path = audio_path(corpus, job.language, job.split, name, "target")
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: the reference audio is missing; delete card.json and the shards of "
            f"{job.language}, {job.split}, and run `raystt prepare`"
        )
    waveform, _ = soundfile.read(path, dtype="float32")
    return np.asarray(waveform)
