"""What must hold between the keys of a search, tried out before anything starts.

The space is tried at its corners: every combination of shapes and lowest and highest values of the
schedule, and every extreme of the other keys. A range whose corners are all fine holds no bad run,
because each rule of a run is a bound on one value or an order between two.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from raystt import schedule as schedules
from raystt.config.parts import InterleavingConfig, TrainingConfig
from raystt.config.run import RunConfig, check_schedule
from raystt.config.validation import Complaint, Invalid, explain, nearest
from raystt.config.yaml_source import dotted

if TYPE_CHECKING:
    from raystt.config.search import SearchConfig

RESERVED = ("none", "paper", "constant", "best")
"""Names that a fixed run of one's own cannot have: they mean something in a report."""


def complaints(search: SearchConfig) -> list[Complaint]:
    """List what is wrong between the keys of a search; locations start at its top."""
    found = [*_lists(search), *_keys(search), *_conditions(search)]
    if not any(c.location[0] == "languages" for c in found):
        found += [*_counts(search), *_ablations(search)]
    if not found:  # else the corners would repeat what was said
        found = [*_schedule_corners(search), *_other_corners(search)]
    return found


def _lists(search: SearchConfig) -> Iterator[Complaint]:
    corpus = search.base.corpus.languages
    for index, language in enumerate(search.languages):
        at = ("languages", index)
        if language not in corpus:
            reason = f"base.corpus.languages has no {language!r}"
            yield Complaint(at, reason, f"{nearest(language, corpus)} or add it to the corpus")
        elif language in search.languages[:index]:
            yield Complaint(at, f"{language!r} stands twice", "remove one")
    for index, reference in enumerate(search.references):
        if reference in search.references[:index]:
            yield Complaint(("references", index), f"{reference!r} stands twice", "remove one")
    for name, schedule in search.reference_schedules.items():
        used = [*search.references, *(ablation.of for ablation in search.ablations.values())]
        if name not in used:
            yield Complaint(("reference_schedules", name), "no such reference is run",
                            nearest(name, used))  # fmt: skip
            continue
        try:
            check_schedule(schedule)
        except Invalid as error:
            for c in error.complaints:
                yield Complaint(("reference_schedules", name, *c.location), c.reason, c.fix)
    if search.fidelity.segments > search.base.training.steps:
        reason = f"more segments than the {search.base.training.steps} steps of training"
        yield Complaint(("fidelity", "segments"), reason, "give fewer segments")


def _counts(search: SearchConfig) -> Iterator[Complaint]:
    """Compare the number of trials with the fixed runs and with what can be proposed."""
    fixed = {language: len(search.fixed(language)) for language in search.languages}
    most = max(fixed, key=lambda language: fixed[language])
    if search.trials is None:
        if search.space.root:
            reason = "null = the fixed runs alone, but `space` has keys"
            yield Complaint(("trials",), reason, "give a number, or write `space: {}`")
    elif search.trials < fixed[most]:
        what = "references"
        if fixed[most] > len(search.references):
            what += f" and ablations of {most}"
        reason = f"{search.trials} trials cannot hold the {fixed[most]} {what}"
        fix = f"give at least {fixed[most]}, better more, or fewer {what}"
        yield Complaint(("trials",), reason, fix)
    elif search.trials > fixed[most] and not search.space.root:
        fix = "add a key"
        if search.ablations:
            fix += ", or write `trials: null` to run what is fixed"
        yield Complaint(("space",), "it is empty, there is nothing to propose", fix)
    for index, language in enumerate(search.languages):
        if not search.trials_of(language):
            reason = f"nothing is run for {language!r}: no reference, no ablation, no proposal"
            fix = "add a reference, a key of the space for it, or remove the language"
            yield Complaint(("languages", index), reason, fix)


def _ablations(search: SearchConfig) -> Iterator[Complaint]:
    """See that each ablation has a name of its own and changes keys to values that there are."""
    known = searchable()
    for name, ablation in search.ablations.items():
        at = ("ablations", name)
        if name in RESERVED or not name.isidentifier():
            reason = f"{name!r} cannot name an ablation"
            fix = f"use letters, digits and '_', and none of {', '.join(RESERVED)}"
            yield Complaint(at, reason, fix)
        for index, language in enumerate(ablation.languages):
            where = (*at, "languages", index)
            if language not in search.languages:
                reason = f"the search has no language {language!r}"
                yield Complaint(where, reason, nearest(language, search.languages))
            elif language in ablation.languages[:index]:
                yield Complaint(where, f"{language!r} stands twice", "remove one")
        unknown = [key for key in ablation.set if key not in known]
        for key in unknown:
            yield Complaint((*at, "set", key), "no such key can be set", nearest(key, known))
        if not unknown:
            yield from _ablated(search, name)


def _ablated(search: SearchConfig, name: str) -> Iterator[Complaint]:
    """Try to build the run of an ablation."""
    at, given = ("ablations", name, "set"), search.ablations[name].set
    try:
        search.run_for(search.languages[0], search.reference(name))
    except Invalid as error:  # the schedule
        for c in error.complaints:
            key = f"schedule.{c.location[0]}"
            key = key if key in given else next(k for k in given if k.startswith("schedule."))
            yield Complaint((*at, key), c.reason, c.fix)
    except ValidationError as error:
        for c in explain(RunConfig, error):
            yield Complaint((*at, dotted(c.location)), c.reason, c.fix)


def searchable() -> list[str]:
    """List the keys of a run that a space may name."""
    fields = {
        field.name: None
        for shape in schedules.SHAPES.values()
        for field in dataclasses.fields(shape)
    }
    return [
        *(f"schedule.{field}" for field in ("shape", *fields)),
        *(f"interleaving.{field}" for field in InterleavingConfig.model_fields),
        *(f"training.{field}" for field in TrainingConfig.model_fields),
    ]


def _keys(search: SearchConfig) -> Iterator[Complaint]:
    known = searchable()
    for key, entry in search.space.root.items():
        if key not in known:
            yield Complaint(("space", key), "no such key can be searched", nearest(key, known))
        for index, language in enumerate(entry.languages):
            if language not in search.languages:
                at = ("space", key, "languages", index)
                reason = f"the search has no language {language!r}"
                yield Complaint(at, reason, nearest(language, search.languages))


def _conditions(search: SearchConfig) -> Iterator[Complaint]:
    space = search.space
    try:
        space.ordered()
    except Invalid as error:
        for c in error.complaints:
            yield Complaint(("space", *c.location), c.reason, c.fix)
        return
    for key, entry in space.root.items():
        for other, values in entry.when.items():
            at = ("space", key, "when", other)
            target = space.root[other]
            if target.kind == "float":
                reason = f"{other} is a float, which never takes one value exactly"
                yield Complaint(at, reason, "name a choice or a whole number")
                continue
            for value in values:
                if not target.takes(value):
                    options = [str(option) for option in target.extremes()]
                    reason = f"{other} never takes the value {value!r}"
                    yield Complaint(at, reason, nearest(value, options))


def schedule_corners(search: SearchConfig) -> Iterator[RunConfig]:
    """Build the run at every corner of the schedule's part of the space."""
    for language, overrides in _corner_overrides(search):
        yield search.run_for(language, overrides)


def _corner_overrides(search: SearchConfig) -> Iterator[tuple[str, dict[str, Any]]]:
    space = search.space
    own = [key for key in space.root if key.startswith("schedule.")]
    tied = any(entry.languages for entry in space.root.values())
    for language in search.languages if tied else search.languages[:1]:
        for corner in space.corners(space.with_conditions(own), language):
            yield language, {key: value for key, value in corner.items() if key in own}


def _schedule_corners(search: SearchConfig) -> list[Complaint]:
    """Try all corners of the schedule; keep the first complaint about each key."""
    found: dict[str, Complaint] = {}
    for language, overrides in _corner_overrides(search):
        try:
            search.run_for(language, overrides)
        except ValidationError as error:
            first = explain(RunConfig, error)[0]
            key = f"schedule.{first.location[-1]}"
            if key not in overrides:  # the other value of an order stands in `base`
                key = list(overrides)[-1]
            corner = ", ".join(f"{name} {value}" for name, value in overrides.items())
            at = ("space", key)
            fix = _fix(key, first.fix, search)
            found.setdefault(key, Complaint(at, f"{first.reason}, at {corner}", fix))
    return list(found.values())


def _fix(key: str, fix: str, search: SearchConfig) -> str:
    """Prefer a condition on the shape where the key belongs to some shapes only."""
    field = key.removeprefix("schedule.")
    owners = [
        name
        for name, shape in schedules.SHAPES.items()
        if field in (f.name for f in dataclasses.fields(shape))
    ]
    shapes = search.space.root.get("schedule.shape")
    if shapes and shapes.choice and 0 < len(owners) < len(schedules.SHAPES):
        chosen = [name for name in owners if name in shapes.choice]
        listed = chosen[0] if len(chosen) == 1 else f"[{', '.join(chosen)}]"
        return f"add `when: {{schedule.shape: {listed}}}`"
    return fix


def _other_corners(search: SearchConfig) -> Iterator[Complaint]:
    """Try every extreme of the keys outside the schedule, one at a time."""
    for key, entry in search.space.root.items():
        if key.startswith("schedule."):
            continue
        for index, value in enumerate(entry.extremes()):
            try:
                search.run_for(search.languages[0], {key: value})
            except ValidationError as error:
                first = explain(RunConfig, error)[0]
                at: tuple[Any, ...] = ("space", key, entry.kind, index)
                yield Complaint(at, first.reason, first.fix)
                if entry.kind != "choice":  # the other end would say much the same
                    break
