"""Training log: one JSON line and one TensorBoard point every few steps."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from raystt import remote
from raystt.files import replacing
from raystt.training.batches import StepBatch
from raystt.training.engine import Engine
from raystt.training.jobs import LOG, Step


class TrainingLog:
    """Writes `train.jsonl` and a TensorBoard event file in `directory`; None = writes nothing.

    A segment that is run again after a crash first drops the lines it wrote before.

    Args:
        directory: Where to write; made if missing.
        start: First step that is still to do.
        tokens, seconds: Of the segment's steps before it, where it goes on from a checkpoint.
    """

    def __init__(
        self, directory: Path | None, start: int, tokens: int = 0, seconds: float = 0.0
    ) -> None:
        self._file: Any = None
        self._board: Any = None
        self._before = (tokens, seconds, 0.0)
        if directory is None:
            return
        # Imported late: it costs half a second that silent ranks need not pay.
        from torch.utils.tensorboard import SummaryWriter

        directory.mkdir(parents=True, exist_ok=True)
        path = directory / LOG
        if start:
            remote.get(path)  # an earlier segment may have run on another node
        with replacing(path) as temporary:
            temporary.write_text("".join(_lines(path, start)))
        self._path, self._file = path, path.open("a")
        self._board = SummaryWriter(str(directory), purge_step=start)

    def write(self, step: Step, batch: StepBatch, engine: Engine) -> None:
        """Write what is known of a step.

        Rates are of the steps since the last line: tokens of all ranks, and on a GPU that is known
        the model FLOPs utilisation (MFU, 0 to 1) of this rank's (`training.flops`).

        Args:
            step: The step; its tokens and seconds are sums over the segment.
            batch: Its global batch.
            engine: That made it.
        """
        if self._file is None:
            return
        now = step.tokens, step.seconds, engine.operations
        tokens, seconds, operations = (a - b for a, b in zip(now, self._before, strict=True))
        self._before = now
        values = {
            "loss": step.loss,
            "ratio": step.ratio,
            "achieved_words": step.achieved,
            "achieved_tokens": batch.tokens_text / max(batch.tokens_total, 1),
            "learning_rate": engine.learning_rate,
            "batch_tokens": batch.tokens,
            "tokens": step.tokens,
            "tokens_per_second": round(tokens / max(seconds, 1e-9), 1),
            "seconds": round(step.seconds, 3),
        }
        if (norm := engine.gradient_norm) is not None:  # asking waits for the GPU
            values["gradient_norm"] = norm
        if engine.peak_rate is not None:
            values["mfu"] = round(operations / max(seconds, 1e-9) / engine.peak_rate, 4)
        if engine.peak_memory:
            values["peak_memory_gib"] = round(engine.peak_memory / 2**30, 2)
        self._file.write(json.dumps({"step": step.step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(f"train/{name}", value, step.step)

    def put(self) -> None:
        """Put both files into the store, if the directory is a copy; they are written on."""
        if self._file is not None:
            self._board.flush()
            for path in (self._path, *self._path.parent.glob(f"events.*.{os.getpid()}.*")):
                remote.update(path)

    def close(self) -> None:
        """Flush and close both files."""
        if self._file is not None:
            self._file.close()
            self._board.close()


def _lines(path: Path, until: int) -> Iterator[str]:
    """Lines of a log of the steps until one; what a kill or a full disk tore is left out."""
    for line in path.read_text(errors="replace").splitlines() if path.exists() else ():
        with suppress(ValueError, TypeError, LookupError):
            if json.loads(line)["step"] <= until:
                yield line + "\n"
