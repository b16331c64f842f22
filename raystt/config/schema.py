"""The JSON Schema of the configs, by which editors complete, explain and check a YAML file."""

from __future__ import annotations

from typing import Any

from pydantic.json_schema import models_json_schema

from raystt.config.infra import InfraConfig
from raystt.config.run import RunConfig
from raystt.config.search import SearchConfig


def json_schema() -> dict[str, Any]:
    """Return the schema (draft 2020-12) of a search, a run, or where one runs.

    As when a file is loaded, it is a search if it has `space` or `base`. What holds between keys
    is for `raystt check`: a file that the schema refuses is refused there too.
    """
    kinds = (SearchConfig, RunConfig, InfraConfig)
    _, schema = models_json_schema([(kind, "validation") for kind in kinds], title="raystt")
    search, run, infra = ({"$ref": f"#/$defs/{kind.__name__}"} for kind in kinds)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "if": {"anyOf": [{"required": ["space"]}, {"required": ["base"]}]},
        "then": search,
        "else": {
            "if": {"minProperties": 1, "propertyNames": {"enum": [*InfraConfig.model_fields]}},
            "then": infra,
            "else": {"if": {"required": ["corpus"]}, "then": run, "else": search},
        },
    }
