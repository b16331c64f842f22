"""The entries of a search together: which are active, and in which order they are asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pydantic import ConfigDict, RootModel

from raystt.config.entry import Entry, Trial, same
from raystt.config.validation import nearest
from raystt.strict import Complaint, Invalid


class Space(RootModel[dict[str, Entry]]):
    """Entries by dotted key, in the order of the file."""

    model_config = ConfigDict(frozen=True)

    def ordered(self) -> list[str]:
        """List the keys in file order, but a key after those that its `when` names.

        Raises:
            Invalid: conditions that form a circle, or name a key that is not in the space.
        """
        done: list[str] = []

        def visit(key: str, path: tuple[str, ...]) -> None:
            if key in done:
                return
            if key in path:
                circle = " -> ".join((*path[path.index(key) :], key))
                reason = f"the conditions form a circle: {circle}"
                raise Invalid([Complaint((key, "when"), reason, "remove one of these `when`")])
            for other in self.root[key].when:
                if other not in self.root:
                    reason = f"{other!r} is not searched, so its value never changes"
                    fix = nearest(other, [name for name in self.root if name != key])
                    if not fix.startswith("did you mean"):
                        fix = "add it to the space, or remove this condition"
                    raise Invalid([Complaint((key, "when", other), reason, fix)])
                visit(other, (*path, key))
            done.append(key)

        for key in self.root:
            visit(key, ())
        return done

    def active(self, key: str, chosen: dict[str, Any], language: str) -> bool:
        """Say whether `key` is searched for `language`, given the values chosen so far."""
        entry = self.root[key]
        if entry.languages and language not in entry.languages:
            return False
        return all(
            other in chosen and any(same(chosen[other], value) for value in values)
            for other, values in entry.when.items()
        )

    def choose(self, language: str, value: Callable[[str], Any]) -> dict[str, Any]:
        """Give the active keys of `language` their values, always in the same order."""
        chosen: dict[str, Any] = {}
        for key in self.ordered():
            if self.active(key, chosen, language):
                chosen[key] = value(key)
        return chosen

    def suggest(self, trial: Trial, language: str) -> dict[str, Any]:
        """Ask an Optuna trial for the active keys of `language`."""
        return self.choose(language, lambda key: self.root[key].suggest(trial, key))

    def corners(self, keys: list[str], language: str) -> Iterator[dict[str, Any]]:
        """Go through all combinations of extremes of `keys`, which `ordered` gave."""
        conditions = {other for key in keys for other in self.root[key].when}

        def values(key: str) -> Iterable[Any]:
            entry = self.root[key]
            return entry.extremes() if key in conditions else entry.ends()

        return self._combinations(keys, values, language)

    def points(self, language: str) -> Iterator[dict[str, Any]]:
        """Go through all points of a language; none where a range has no step."""
        finite = all(
            entry.finite
            for entry in self.root.values() if not entry.languages or language in entry.languages
        )  # fmt: skip
        if not finite:
            return iter(())
        return self._combinations(self.ordered(), lambda key: self.root[key].values(), language)

    def _combinations(
        self, keys: list[str], values: Callable[[str], Iterable[Any]], language: str
    ) -> Iterator[dict[str, Any]]:
        def extend(index: int, chosen: dict[str, Any]) -> Iterator[dict[str, Any]]:
            if index == len(keys):
                yield dict(chosen)
            elif not self.active(keys[index], chosen, language):
                yield from extend(index + 1, chosen)
            else:
                for value in values(keys[index]):
                    yield from extend(index + 1, {**chosen, keys[index]: value})

        return extend(0, {})

    def with_conditions(self, keys: list[str]) -> list[str]:
        """Return `keys` and all keys that decide whether they are active, in order."""
        wanted = set(keys)
        for key in reversed(self.ordered()):
            if key in wanted:
                wanted.update(self.root[key].when)
        return [key for key in self.ordered() if key in wanted]
