"""Training log: one JSON line and one TensorBoard point every few steps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from raystt.training.batches import StepBatch
from raystt.training.jobs import Step


class TrainingLog:
    """Writes `train.jsonl` and a TensorBoard event file in `directory`; None = writes nothing.

    A segment that is run again after a crash first drops the lines it wrote before.

    Args:
        directory: Where to write; made if missing.
        start: First step of the segment.
    """

    def __init__(self, directory: Path | None, start: int) -> None:
        self._file: Any = None
        self._board: Any = None
        if directory is None:
            return
        # Imported late: it costs half a second that silent ranks need not pay.
        from torch.utils.tensorboard import SummaryWriter

        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "train.jsonl"
        kept = [line for line in _lines(path) if json.loads(line)["step"] <= start]
        path.write_text("".join(line + "\n" for line in kept))
        self._file = path.open("a")
        self._board = SummaryWriter(str(directory), purge_step=start)

    def write(self, step: Step, learning_rate: float, batch: StepBatch) -> None:
        """Write what is known of a step."""
        if self._file is None:
            return
        values = {
            "loss": step.loss,
            "ratio": step.ratio,
            "achieved_words": step.achieved,
            "achieved_tokens": batch.tokens_text / max(batch.tokens_total, 1),
            "learning_rate": learning_rate,
            "batch_tokens": batch.tokens,
            "tokens": step.tokens,
            "seconds": round(step.seconds, 3),
        }
        self._file.write(json.dumps({"step": step.step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self._board.add_scalar(f"train/{name}", value, step.step)

    def close(self) -> None:
        """Flush and close both files."""
        if self._file is not None:
            self._file.close()
            self._board.close()


def _lines(path: Path) -> list[str]:
    """Whole lines of a log; the last one may have been torn by a kill."""
    if not path.exists():
        return []
    text = path.read_text()
    return text[: text.rfind("\n") + 1].splitlines()
