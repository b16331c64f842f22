"""What is kept of the best of a language: its config, its model and a card that says what it is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from raystt import remote
from raystt.config import OBJECTIVES, RunConfig, SearchConfig, to_yaml
from raystt.config.loading import CONFIG_FILE
from raystt.evaluation.export import USE
from raystt.files import remove, write_atomic
from raystt.hub import MODEL_CARD
from raystt.results import Result
from raystt.searching.directory import RunDirectory
from raystt.searching.verdict import Answer
from raystt.training.jobs import MODEL

if TYPE_CHECKING:
    from raystt.evaluation.translate import Translation


@dataclass(frozen=True)
class Best:
    """What a search has found for a language: see `raystt.searching.verdict.Answer`.

    Attributes:
        verdict: In words, whether anything beats the paper's schedule.
        result: Result of the trial to train with, on the split that trials are compared on.
        config: The config to train the final model with.
        model: Directory of its model, as transformers loads it.
    """

    verdict: str
    result: Result
    config: RunConfig
    model: Path

    def translate(self, audio: str | os.PathLike[str]) -> Translation:
        """Translate a recording with its model; see `raystt.translate`."""
        from raystt.evaluation.translate import translate_recording

        return translate_recording(self.config, self.model, audio)


def config_of(search: SearchConfig, result: Result) -> RunConfig:
    """Return the config that trains a trial's schedule once more, as a run of its own."""
    name = f"{search.name}-{result.language}-final"
    return search.run_for(result.language, result.overrides, name=name)


def write_best(
    search: SearchConfig, directory: RunDirectory, answer: Answer, tested: Result | None
) -> None:
    """Write `best/<lang>/`: config.yaml, a link to the model, and a card (README.md)."""
    winner = answer.chosen
    run = config_of(search, winner)
    folder = directory.best(winner.language)
    score = f"ASR-BLEU {_interval(winner)} on {winner.split}"
    head = (
        f"# Of {search.trials_of(winner.language)} trials: {score}, {winner.signature}\n"
        f"# The search's best is {answer.verdict}.\n"
    )
    write_atomic(folder / CONFIG_FILE, head + to_yaml(run))
    pairs = directory.card().split(winner.language, "train").pairs
    test = f", {_interval(tested)} on {tested.split}, which chose nothing" if tested else ""
    chosen = winner.reference is None  # a reference stands there because nothing beat it
    flattered = f" The score on {winner.split} chose this trial and flatters it." * chosen
    write_atomic(
        folder / MODEL_CARD,
        f"# {search.name}: {winner.language} to {search.base.corpus.target}\n\n"
        f"Speech-to-speech translation, trial #{winner.trial}"
        f"{f' ({winner.reference})' if winner.reference else ''} of {search.name}.\n\n"
        f"- Schedule of the text ratio: {run.schedule.label()}; "
        f"{winner.achieved_words:.0%} of the words were text over the whole training.\n"
        f"- Data: {pairs} pairs, {search.base.corpus.reader} corpus; seed {winner.seed}, "
        f"{winner.steps} steps.\n"
        f"- {score}{test}.{flattered}\n"
        f"{_fresh(answer, search)}"
        f"- Signature: `{winner.signature}`\n\n"
        f"{USE}\n\n"
        "`model/` loads with `AutoModelForCausalLM.from_pretrained`. `raystt train config.yaml` "
        "trains it again; `raystt evaluate .` scores it.\n",
    )
    link = folder / MODEL
    if link.is_symlink() or remote.url_of(link):
        remove(link)
    # Relative, so that the run may be moved.
    link.symlink_to(os.path.relpath(directory.model(winner), folder))


def _fresh(answer: Answer, search: SearchConfig) -> str:
    """Return the card's lines on what was confirmed."""
    lines = [f"- The search's best is {answer.verdict}."]
    fresh = answer.fresh.get(answer.chosen.trial)
    if fresh is not None:
        low, high = fresh.ci
        seeds, score = ", ".join(map(str, fresh.seeds)), OBJECTIVES[search.objective]
        lines.append(
            f"- Trained anew on seeds {seeds}: {score} "
            f"{fresh.score:.1f} [{low:.1f}, {high:.1f}] on "
            f"{search.base.evaluation.report_split}, over seeds and sentences."
        )
    return "".join(line + "\n" for line in lines)


def _interval(result: Result) -> str:
    low, high = result.ci
    return f"{result.asr_bleu:.1f} [{low:.1f}, {high:.1f}]"
