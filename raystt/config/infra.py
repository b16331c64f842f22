"""Where a run or a search runs, in a file of its own: what is trained is the same everywhere."""

from __future__ import annotations

import copy
from pathlib import PurePath
from typing import Any

from pydantic import Field

from raystt.config.base import Directory
from raystt.config.corpus import CorpusConfig
from raystt.config.parts import Resources, ResourcesConfig
from raystt.config.run import RunBase
from raystt.config.yaml_source import Source
from raystt.remote import is_url
from raystt.strict import Location, Part


class InfraConfig(Part):
    """The machines of a run or a search, in place of what its own file says of them."""

    root: Directory | None = Field(
        default=None,
        description="where relative paths of corpus, sources and storage start; null = where "
        "raystt does",
    )
    resources: Resources = Field(
        default=ResourcesConfig(),
        description="in place of all `resources` of the config; what is left out has its default",
    )


def placed(source: Source, infra: Source) -> Source:
    """Return a run or a search with `resources` and `root` of another file.

    Args:
        source: The file of the run or the search.
        infra: That of an `InfraConfig`, validated.
    """
    search = "base" in source.data or "space" in source.data
    at: Location = ("base",) if search else ()
    data = copy.deepcopy(source.data)
    run = data.get("base") if search else data
    if not isinstance(run, dict):  # refused when it is validated
        return source
    run["resources"] = infra.data.get("resources", {})
    if root := infra.data.get("root"):
        run["storage"] = _below(root, run.get("storage", RunBase.model_fields["storage"].default))
        corpus = run.get("corpus")
        if isinstance(corpus, dict):
            default = CorpusConfig.model_fields["path"].default
            corpus["path"] = _below(root, corpus.get("path", default))
            sources = corpus.get("sources")
            if isinstance(sources, dict) and not is_url(root):  # recordings lie on a disk
                corpus["sources"] = {key: _below(root, path) for key, path in sources.items()}
    return Source(source.file, data, source.lines, {(*at, "resources"): (infra, ("resources",))})


def _below(root: str, path: Any) -> Any:
    """Join a path to the root, unless it is absolute; what is no path stays for validation."""
    if not isinstance(path, str) or not path or "://" in path:
        return path
    return f"{root.rstrip('/')}/{path}" if is_url(root) else str(PurePath(root) / path)
