"""What is proposed, through real studies: an even sequence or a sampler, nothing twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from optuna.storages import InMemoryStorage
from tiny import tiny_search

from raystt.results import Proposal
from raystt.searching.proposals import SAME_CURVE
from raystt.searching.searcher import StudySearcher
from raystt.searching.study import LanguageStudy, own_journal
from raystt.searching.transfer import to_repeat

MIXED = {
    "schedule.shape": {"choice": ["knots", "polynomial"]},
    "schedule.initial": {"float": [0.5, 1.0]},
    "schedule.power": {"float": [0.5, 2.0], "log": True, "when": {"schedule.shape": "polynomial"}},
    "schedule.end": {"float": [0.5, 1.0], "step": 0.1},
    "training.batch_utterances": {"int": [2, 4]},
    "interleaving.span_mean": {"choice": [1.0, 3.0]},
}


def open_study(path: Path, name: str, storage: Any = None, **changes: Any) -> LanguageStudy:
    changes = {"sampler": name, "trials": 20, **changes}
    search = tiny_search(path, references=[], **changes)
    return LanguageStudy(search, "es", storage or InMemoryStorage())


def run(study: LanguageStudy, count: int) -> list[Proposal]:
    """Run trials of which those with a high initial ratio score best."""
    asked = []
    for _ in range(count):
        proposal = study.ask()
        assert proposal is not None
        study.tell(proposal.trial, 20 * float(proposal.overrides["schedule.initial"]), {})
        asked.append(proposal)
    return asked


@pytest.mark.parametrize("name", ["tpe", "gp", "cmaes", "nsgaii", "random", "sobol", "auto"])
def test_every_sampler_proposes_valid_and_different_trials(tmp_path: Path, name: str) -> None:
    study = open_study(tmp_path, name, space=MIXED)
    asked = run(study, 20)
    origins = [proposal.origin for proposal in asked]
    if name == "random":
        assert origins == ["random"] * 20
    elif name == "sobol":
        assert origins == ["sobol"] * 20
    else:
        assert origins.count("tpe" if name == "auto" else name) >= 14
    assert len({str(sorted(p.overrides.items())) for p in asked}) == 20
    for proposal in asked:
        study.search.run_for("es", proposal.overrides)
        assert ("schedule.power" in proposal.overrides) == (
            proposal.overrides["schedule.shape"] == "polynomial"
        )
        assert proposal.overrides["schedule.end"] in (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    assert study.ask() is None


def test_few_trials_are_points_of_the_sequence_alone(tmp_path: Path) -> None:
    study = open_study(tmp_path, "auto", trials=8)
    asked = run(study, 8)
    assert {proposal.origin for proposal in asked} == {"sobol"}
    # What makes it worth having: of eight points each half, quarter and eighth has its share.
    for key in ("schedule.initial", "schedule.end"):
        eighths = [int((float(p.overrides[key]) - 0.5) / 0.5 * 8) for p in asked]
        assert sorted(eighths) == list(range(8))
    assert sum(p.overrides["schedule.shape"] == "linear" for p in asked) == 4


def test_a_resumed_study_goes_on_in_the_sequence(tmp_path: Path) -> None:
    whole = run(open_study(tmp_path, "sobol"), 6)
    journal = tmp_path / "journal.log"
    first = run(open_study(tmp_path, "sobol", own_journal(journal)), 2)
    rest = run(open_study(tmp_path, "sobol", own_journal(journal)), 4)
    assert [p.overrides for p in (*first, *rest)] == [p.overrides for p in whole]


def test_what_hardly_differs_is_not_proposed_again(tmp_path: Path) -> None:
    """TPE draws closer and closer around the best; what it would repeat goes elsewhere."""
    space = {"schedule.initial": {"float": [0.88, 0.92]}, "schedule.end": {"float": [0.5, 1.0]}}
    study = open_study(tmp_path, "tpe", space=space, trials=24)
    asked = run(study, 24)
    curves = [study.search.run_for("es", p.overrides).schedule.values(0, 50, 50) for p in asked]
    drawn = [n for n, p in enumerate(asked) if p.origin == "tpe"]
    near = [
        (a, b) for b in drawn for a in range(b) if np.abs(curves[a] - curves[b]).mean() < SAME_CURVE
    ]
    assert drawn and not near
    assert "sobol" in {p.origin for p in asked}  # where all that it drew was known


def test_languages_repeat_what_leads_in_another(tmp_path: Path) -> None:
    base = tiny_search(tmp_path).base.model_dump(mode="json", by_alias=True)
    base["corpus"]["languages"]["fr"] = {"train": 12}
    search = tiny_search(
        tmp_path, languages=["es", "fr"], references=["paper"], trials=8, base=base,
        transfer={"top": 1},
    )  # fmt: skip
    searcher = StudySearcher(search)
    es, fr = (searcher.studies[name] for name in ("es", "fr"))

    def ask(study: LanguageStudy, other: LanguageStudy) -> Proposal:
        found = study.ask(lambda: to_repeat(study, [other]))
        assert found is not None
        return found

    def score(study: LanguageStudy, proposal: Proposal) -> None:
        value = 10.0 if proposal.reference else 20 * float(proposal.overrides["schedule.initial"])
        study.tell(proposal.trial, value, {})

    done = [es.ask() for _ in range(4)]
    for proposal in done:
        score(es, proposal)
    leading = max(done[1:], key=lambda p: p.overrides["schedule.initial"])
    score(fr, ask(fr, es))  # its reference
    repeated = ask(fr, es)
    assert repeated.origin == leading.label and repeated.overrides == leading.overrides
    assert ask(fr, es).origin == "tpe"  # one was to be repeated
    assert {ask(es, fr).origin for _ in range(2)} == {"tpe"}  # nothing leads in fr yet
