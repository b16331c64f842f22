"""What must hold between the keys of a search, tried out before anything starts.

The space is tried at its corners: every combination of shapes and lowest and highest values of the
schedule, and every extreme of the other keys. A range whose corners are all fine holds no bad run,
because each rule of a run is a bound on one value or an order between two.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import product
from typing import Any

from pydantic import ValidationError

from raystt.config.overrides import searchable, unsearchable
from raystt.config.run import RunConfig
from raystt.config.search import REFERENCES, SearchConfig
from raystt.config.validation import explain, nearest
from raystt.config.yaml_source import dotted
from raystt.schedule import SHAPES, Apart
from raystt.strict import Complaint, Invalid, Location

RESERVED = (*REFERENCES, "best")
"""Names that a fixed run of one's own cannot have: they mean something in a report."""

_MOST_CORNERS = 20_000
"""Combinations that are tried, in seconds; the shapes, each with all their keys, are 224."""


def complaints(search: SearchConfig, unknown: Sequence[Location] = ()) -> list[Complaint]:
    """List what is wrong between the keys of a search; locations start at its top.

    Args:
        search: The search.
        unknown: What the search does not have as it was written; rules that look there are left
            out.
    """

    def apply(*rules: Rule) -> list[Complaint]:
        found = [c for rule, reads in rules if not meet(reads, unknown) for c in rule(search)]
        return [c for c in found if not meet([c.location], unknown)]

    found = apply(*_FIRST)
    if not any(c.location[0] == "languages" for c in found):
        found += apply(*_SECOND)
    # what was said already would be repeated at the corners
    return found or apply(*_CORNERS)


def meet(some: Iterable[Location], others: Sequence[Location]) -> bool:
    """Say whether a location of the one list holds, or is held by, a location of the other."""
    return any(one[: len(other)] == other[: len(one)] for one in some for other in others)


def _languages(search: SearchConfig) -> Iterator[Complaint]:
    corpus = search.base.corpus.languages
    for index, language in enumerate(search.languages):
        at = ("languages", index)
        if language not in corpus:
            reason = f"base.corpus.languages has no {language!r}"
            yield Complaint(at, reason, f"{nearest(language, corpus)} or add it to the corpus")
        elif language in search.languages[:index]:
            yield Complaint(at, f"{language!r} stands twice", "remove one")


def _references(search: SearchConfig) -> Iterator[Complaint]:
    for index, reference in enumerate(search.references):
        if reference in search.references[:index]:
            yield Complaint(("references", index), f"{reference!r} stands twice", "remove one")
    used = [*search.references, *(ablation.of for ablation in search.ablations.values())]
    for name in search.reference_schedules:
        if name not in used:
            at = ("reference_schedules", name)
            yield Complaint(at, "no such reference is run", nearest(name, used))


def _objective(search: SearchConfig) -> Iterator[Complaint]:
    if search.objective != "text_bleu":
        return
    key, without = "interleaving.format", "direct"
    entry = search.space.root.get(key)
    if (
        search.base.interleaving.format == without
        or (entry is not None and entry.takes(without))
        or any(ablation.set.get(key) == without for ablation in search.ablations.values())
    ):
        reason = "text_bleu is of the translation that a model writes before it speaks, and it "
        reason += f"writes none where {key} is {without}"
        fix = f"let {key} be chain_of_thought everywhere, or choose asr_bleu or chrf"
        yield Complaint(("objective",), reason, fix)


def _segments(search: SearchConfig) -> Iterator[Complaint]:
    steps = search.base.training.steps
    if search.fidelity.segments > steps:
        reason = f"more segments than the {steps} steps of training"
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
        unknown = [key for key in ablation.set if key not in searchable()]
        for key in unknown:
            yield Complaint((*at, "set", key), *unsearchable(key))
        if not unknown:
            yield from _ablated(search, name)


def _ablated(search: SearchConfig, name: str) -> Iterator[Complaint]:
    """Try to build the run of an ablation."""
    at, given = ("ablations", name, "set"), search.ablations[name].set
    try:
        search.run_for(search.languages[0], search.reference(name))
    except ValidationError as error:
        for c in explain(RunConfig, error):
            key = dotted(c.location)
            if key not in given:  # the other value of an order, which the reference has
                key = next(k for k in given if k.startswith("schedule."))
            yield Complaint((*at, key), c.reason, c.fix)


def _keys(search: SearchConfig) -> Iterator[Complaint]:
    for key, entry in search.space.root.items():
        if key not in searchable():
            yield Complaint(("space", key), *unsearchable(key))
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


def _schedule_corners(search: SearchConfig) -> Iterable[Complaint]:
    """Try all corners of the schedule; keep the first complaint about each key."""
    found: dict[str, Complaint] = {}
    for number, (language, overrides) in enumerate(_corner_overrides(search)):
        if number == _MOST_CORNERS:
            reason = f"it has more than {number} combinations of extremes"
            fix = "name fewer values in its choices"
            found.setdefault("", Complaint(("space",), reason, fix))
            break
        try:
            search.run_for(language, overrides)
        except ValidationError as error:
            first = explain(RunConfig, error)[0]
            key = dotted(first.location)
            if key not in overrides:  # the other value of an order stands in `base`
                key = list(overrides)[-1]
            corner = ", ".join(f"{name} {value}" for name, value in overrides.items())
            at = ("space", key)
            fix = _fix(key, first.fix, search)
            found.setdefault(key, Complaint(at, f"{first.reason}, at {corner}", fix))
    return found.values()


def _fix(key: str, fix: str, search: SearchConfig) -> str:
    """Prefer a condition on the shape where the key belongs to some shapes only."""
    part, _, field = key.rpartition(".")
    owners = [name for name, shape in SHAPES.items() if field in shape.model_fields]
    shapes = search.space.root.get(f"{part}.shape")
    if shapes and shapes.choice and 0 < len(owners) < len(SHAPES):
        chosen = [name for name in owners if name in shapes.choice]
        if not chosen:
            return f"remove it, or let {part}.shape be {owners[0]} too"
        listed = chosen[0] if len(chosen) == 1 else f"[{', '.join(chosen)}]"
        return f"add `when: {{{part}.shape: {listed}}}`"
    return fix


def _other_corners(search: SearchConfig) -> Iterator[Complaint]:
    """Try every extreme of the keys outside the schedule, one at a time, and with sides apart."""
    shapes, language = search.space.root.get("schedule.shape"), search.languages[0]
    apart = {"schedule.shape": Apart().shape}
    for key, entry in search.space.root.items():
        if key.startswith("schedule."):
            continue
        beside: list[dict[str, Any]] = [{}]
        if shapes and shapes.takes(Apart().shape) and search.space.active(key, apart, language):
            beside.append(apart)
        for (index, value), more in product(enumerate(entry.extremes()), beside):
            try:
                search.run_for(language, {key: value, **more})
            except ValidationError as error:
                first = explain(RunConfig, error)[0]
                at: tuple[Any, ...] = ("space", key, entry.kind, index)
                yield Complaint(at, first.reason, first.fix)
                if entry.kind != "choice":  # the other end would say much the same
                    break


Rule = tuple[Callable[[SearchConfig], Iterable[Complaint]], tuple[Location, ...]]
"""What is checked, and where it looks beside the place that it complains of."""

_FIXED: tuple[Location, ...] = (("languages",), ("references",), ("ablations",))
_FIRST: tuple[Rule, ...] = (
    (_languages, (("languages",), ("base", "corpus", "languages"))),
    (_references, (("references",), ("ablations",))),
    (_objective, (("space",), ("ablations",), ("base", "interleaving"))),
    (_segments, (("base", "training", "steps"),)),
    (_keys, (("languages",),)),
    (_conditions, (("space",),)),
)
_SECOND: tuple[Rule, ...] = (
    (_counts, (*_FIXED, ("trials",), ("space",))),
    (_ablations, (*_FIXED, ("reference_schedules",), ("base",))),
)
_CORNERS: tuple[Rule, ...] = (
    (_schedule_corners, (("space",), ("base",))),
    (_other_corners, (("space",), ("base",))),
)
