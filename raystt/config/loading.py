"""From a file to a run or a search: everything that is wrong with it, told together."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from raystt.config.checks import complaints, meet
from raystt.config.infra import InfraConfig, placed
from raystt.config.run import RunConfig
from raystt.config.search import SearchConfig
from raystt.config.validation import explain
from raystt.config.yaml_source import ConfigError, Source, read
from raystt.errors import BadInput
from raystt.strict import Complaint, Location

M = TypeVar("M", bound=BaseModel)
CONFIG_FILE = "config.yaml"
"""Name of its config in the directory of a run, a search, a best, and of an exported model."""

Infra = Path | str | None
"""A file that says where a config runs that is itself a file (`raystt.config.infra`)."""

_STAND_INS: dict[str, Any] = {"name": "unnamed", "trials": None, "space": {}}
"""What takes the place of required keys, so that one of them hides nothing that is wrong beside."""


def load_run(path: Path | str, infra: Infra = None) -> RunConfig:
    """Read the config of a run.

    Args:
        path: Its YAML file.
        infra: That of an `InfraConfig`: where it runs, in place of what `path` says of that.

    Raises:
        ConfigError: with every problem of the file as `FILE:LINE: key.path: reason; fix`.
    """
    source = read_config(path, infra)
    for key in ("space", "base"):
        if key in source.data:
            fix = "use `raystt search`, or write the config of a run"
            raise ConfigError([source.problem((key,), "this is the config of a search", fix)])
    return _build(RunConfig, source)


def load_search(path: Path | str, infra: Infra = None) -> SearchConfig:
    """Read the config of a search, see `load_run`."""
    return _build(SearchConfig, read_config(path, infra))


def load_any(path: Path | str, infra: Infra = None) -> RunConfig | SearchConfig:
    """Read a search if the file has `space` or `base`, else a run; see `load_run`."""
    return parse_any(read_config(path, infra))


G = TypeVar("G", bound=RunConfig | SearchConfig)


def given(config: Path | str | G, infra: Infra, load: Callable[[Path | str, Infra], G]) -> G:
    """Return a config that is one already, or load it from its file.

    Raises:
        BadInput: `infra` is given for a config that is in no file.
        ConfigError: see `load_run`.
    """
    if isinstance(config, Path | str):
        return load(config, infra)
    if infra is not None:
        raise BadInput(
            f"infra: {infra} would replace `resources` of a config that was made in Python; give "
            "those to the config, or the path of its file"
        )
    return config


def read_config(path: Path | str, infra: Infra = None) -> Source:
    """Read what `parse_any` validates; a file that says where it runs is validated here."""
    source = read(path)
    if infra is None:
        return source
    where = read(infra)
    _build(InfraConfig, where)
    return placed(source, where)


def parse_any(source: Source) -> RunConfig | SearchConfig:
    """Validate a file that was read already (see `load_any`)."""
    if "space" in source.data or "base" in source.data:
        return _build(SearchConfig, source)
    return _build(RunConfig, source)


def _build(model: type[M], source: Source) -> M:
    """Validate a file as `model`, a search with what must hold between its keys."""
    built, found, unknown = _validated(model, source.data)
    if isinstance(built, SearchConfig):
        found += complaints(built, unknown)
    if built is None or found:
        problems = [source.problem(c.location, c.reason, c.fix) for c in found]
        raise ConfigError(sorted(problems, key=lambda p: p.line))
    return built


def _validated(
    model: type[M], given: dict[str, Any]
) -> tuple[M | None, list[Complaint], list[Location]]:
    """Validate data; where values are refused, again without them, for what else is wrong.

    Returns:
        The model, with defaults in place of what was refused; None if it cannot do without that.
        What is wrong, as far as it does not follow from something else that is. The places that
        were refused: what the model has there means nothing.
    """
    data = copy.deepcopy(given)
    found: list[Complaint] = []
    unknown: list[Location] = []
    while True:
        try:
            return model.model_validate(data), found, unknown
        except ValidationError as error:
            refused = explain(model, error)
        found += [c for c in refused if not meet([c.location, *c.reads], unknown)]
        removed = [_remove(data, c.location) for c in refused]
        unknown += [c.location for c in refused] + [place for place in removed if place]
        known = _STAND_INS.keys() & model.model_fields.keys()
        added = {key: _STAND_INS[key] for key in known if (key,) in [c.location for c in refused]}
        data |= added
        if not any(removed) and not added:
            return None, found, unknown


def _remove(data: dict[str, Any], location: Location) -> Location:
    """Remove the key at a location, or the nearest above; return which, () if there is none.

    A list goes as a whole: without one item the others would have other places.
    """
    holder, names = data, []
    for part in location:
        if part not in holder:
            break
        names.append(part)
        if not isinstance(holder[str(part)], dict):
            break
        holder = holder[str(part)]
    if not names:
        return ()
    holder = data
    for name in names[:-1]:
        holder = holder[str(name)]
    del holder[str(names[-1])]
    return tuple(names)
