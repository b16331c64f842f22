"""Strict YAML: every value keeps its line, and every complaint says where and what to do.

Two things differ from `yaml.safe_load`: a key may stand only once in a mapping, and plain scalars
follow YAML 1.2 (`2e-3` is a number; `no`, a language code, is a string and not false).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError

from raystt.errors import BadInput
from raystt.strict import Location

_LARGEST = 1 << 20
"""Bytes of a file: more is some other file, and PyYAML would take minutes over it."""

_DEEPEST = 32
"""Collections within each other; Python's own limit comes soon after."""

_MOST = 5_000
"""Values of a file, aliases written out: a few lines of them can spell billions."""

_HALF = re.compile("[\ud800-\udfff]")  # an escape can spell it, UTF-8 cannot


@dataclass(frozen=True)
class Problem:
    """One complaint about a file: where it is, what is wrong, what to do."""

    file: str
    line: int
    key: str
    reason: str
    fix: str

    def __str__(self) -> str:
        place = (
            f"{self.file}:{self.line}: " if self.file else ""
        )  # a config made in Python has none
        key = f"{self.key}: " if self.key else ""
        fix = f"; {self.fix}" if self.fix else ""
        return f"{place}{key}{self.reason}{fix}"


class ConfigError(BadInput):
    """All the problems of a file, one a line as `FILE:LINE: key.path: reason; fix`."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(tuple(problems))
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


@dataclass(frozen=True)
class Source:
    """A YAML file as plain data, and the line of each of its keys and items (from 1).

    `elsewhere` are the locations that another file gave, and where they are in that.
    """

    file: str
    data: dict[str, Any]
    lines: dict[Location, int] = field(default_factory=dict)
    elsewhere: dict[Location, tuple[Source, Location]] = field(default_factory=dict)

    def line(self, location: Location) -> int:
        """Return the line of `location`, or of the nearest key above it that the file has."""
        while location and location not in self.lines:
            location = location[:-1]
        return self.lines.get(location, 1)

    def problem(self, location: Location, reason: str, fix: str) -> Problem:
        """Make a problem of this file at `location`."""
        for place, (other, there) in self.elsewhere.items():
            if location[: len(place)] == place:
                return other.problem(there + location[len(place) :], reason, fix)
        return Problem(self.file, self.line(location), dotted(location), reason, fix)


def dotted(location: Iterable[str | int]) -> str:
    """Write a location as `a.b[0].c`."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += f".{part}" if text else part
    return text


_RESOLVERS = (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+0123456789.",
    ),
    ("null", r"~|null|Null|NULL|", "~nN"),
)


_PATTERNS = {name: pattern for name, pattern, _ in _RESOLVERS}


def _core_resolvers() -> dict[str | None, list[tuple[str, re.Pattern[str]]]]:
    """Build PyYAML's table (first character -> tag, pattern) for the core schema of YAML 1.2."""
    table: dict[str | None, list[tuple[str, re.Pattern[str]]]] = {}
    for name, pattern, first in _RESOLVERS:
        entry = (f"tag:yaml.org,2002:{name}", re.compile(rf"^(?:{pattern})$"))
        for character in first:
            table.setdefault(character, []).append(entry)
        if name == "null":
            table.setdefault("", []).append(entry)
    return table


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = _core_resolvers()
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
        self.depth += 1
        if self.depth > _DEEPEST:
            raise ComposerError(None, None, f"nested more than {_DEEPEST} deep", mark)
        node = super().compose_node(parent, index)
        self.depth -= 1
        if isinstance(node, yaml.ScalarNode) and _HALF.search(node.value):
            raise ComposerError(None, None, "half a character (an unpaired surrogate)", mark)
        return node


class _Dumper(yaml.SafeDumper):
    yaml_implicit_resolvers = _core_resolvers()

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)


def read(path: Path | str) -> Source:
    """Read a YAML mapping.

    Raises:
        ConfigError: no such file, not UTF-8, not YAML, not a mapping, or a key written twice.
    """
    file = str(path)
    try:
        with open(path, "rb") as opened:
            data = opened.read(_LARGEST + 1)
        if len(data) > _LARGEST:
            raise ConfigError(
                [Problem(file, 1, "", "it is too long for a config", "check the path")]
            )
        text = data.decode("utf-8")
    except FileNotFoundError:
        problem = Problem(file, 1, "", "there is no such file", "check the path")
        raise ConfigError([problem]) from None
    except (OSError, UnicodeDecodeError) as error:
        fix = "give a readable text file in UTF-8"
        raise ConfigError([Problem(file, 1, "", f"cannot be read ({error})", fix)]) from None
    return parse(text, file)


def parse(text: str, file: str = "<text>") -> Source:
    """Read a YAML mapping from `text`; `file` is the name that errors carry (see `read`)."""
    try:
        loader = _Loader(text)
    except yaml.YAMLError as error:
        reason = f"not valid YAML ({' '.join(str(error).split())})"
        raise ConfigError([Problem(file, 1, "", reason, "save it as plain UTF-8")]) from None
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        reason = f"not valid YAML ({error.problem or error.context})"
        fix = "correct the indentation, quotes or brackets there"
        raise ConfigError([Problem(file, line, "", reason, fix)]) from None
    except (ValueError, OverflowError):  # what PyYAML takes for a number or an escape unseen
        reason = "not valid YAML (an escape that is no character, or a directive)"
        raise ConfigError([Problem(file, loader.line + 1, "", reason, "correct it")]) from None
    if not isinstance(node, yaml.MappingNode):
        reason = "expected a mapping of keys to values, found " + (
            "an empty file"
            if node is None
            else "a list"
            if isinstance(node, yaml.SequenceNode)
            else "a plain value"
        )
        fix = "start from one of the files in search_spaces/"
        raise ConfigError([Problem(file, 1, "", reason, fix)])
    reading = _Reading(loader, file)
    data = reading.value(node, ())
    if reading.problems:
        raise ConfigError(reading.problems)
    return Source(file, data, reading.lines)


def dump(data: dict[str, Any]) -> str:
    """Write plain data as YAML that `parse` reads back to the same."""
    text = yaml.dump(data, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=96)
    return str(text)


class _Reading:
    """One walk over the nodes of a file, collecting values, lines and problems."""

    def __init__(self, loader: _Loader, file: str) -> None:
        self.loader = loader
        self.file = file
        self.lines: dict[Location, int] = {}
        self.problems: list[Problem] = []
        self.open: list[yaml.Node] = []
        self.values = 0

    def value(self, node: yaml.Node, at: Location) -> Any:
        self.values += 1
        if self.values > _MOST or len(self.open) > _DEEPEST:
            much = f"{_MOST} values" if self.values > _MOST else f"{_DEEPEST} levels"
            self.complain(node, at, f"with its aliases, more than {much}", "write less")
            raise ConfigError(self.problems)
        if any(node is parent for parent in self.open):
            self.complain(node, at, "an alias that contains itself", "write the value out")
            return None
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, at)
        self.open.append(node)
        value = (
            self.mapping(node, at)
            if isinstance(node, yaml.MappingNode)
            else [self.item(child, (*at, index)) for index, child in enumerate(node.value)]
        )
        self.open.pop()
        return value

    def item(self, node: yaml.Node, at: Location) -> Any:
        self.lines[at] = node.start_mark.line + 1
        return self.value(node, at)

    def mapping(self, node: yaml.MappingNode, at: Location) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                self.complain(key_node, at, "a key that is not a word", "write a plain key")
                continue
            key = key_node.value
            here = (*at, key)
            if key == "<<":
                fix = "write the keys out, or use an alias for a whole value"
                self.complain(key_node, here, "merge keys are not read", fix)
                continue
            if key in result:
                reason = f"the key stands twice, first on line {self.lines[here]}"
                self.complain(key_node, here, reason, "remove one of the two")
                continue
            self.lines[here] = key_node.start_mark.line + 1
            result[key] = self.value(value_node, here)
        return result

    def scalar(self, node: yaml.ScalarNode, at: Location) -> Any:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        try:
            if kind == "str":
                return node.value
            if kind in _PATTERNS:
                if not re.fullmatch(_PATTERNS[kind], node.value):
                    raise ValueError
                # PyYAML's own reads 010 as octal
                return int(node.value) if kind == "int" else self.loader.construct_object(node)
        except ValueError:  # an explicit tag, or more digits than Python reads
            self.complain(node, at, f"{node.value!r} is not a {kind}", "drop the tag")
            return None
        self.complain(node, at, f"the tag {node.tag} is not read", "write a plain value")
        return None

    def complain(self, node: yaml.Node, at: Location, reason: str, fix: str) -> None:
        line = node.start_mark.line + 1
        self.problems.append(Problem(self.file, line, dotted(at), reason, fix))
