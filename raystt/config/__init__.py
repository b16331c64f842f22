"""The config of one run: strict, frozen models over one YAML file.

`load_run(path)` reads a run; `raystt.space.load_search(path)` reads a search, whose `base` is a
run without its name, seed and language. An unknown key, a wrong type or a value out of range is
refused with file, line, key, reason and fix, all problems of a file together (`ConfigError`).
"""

from raystt.config.parts import (
    BaseLmConfig,
    CorpusConfig,
    EvaluationConfig,
    InterleavingConfig,
    LanguageSizes,
    ModelConfig,
    ResourcesConfig,
    TrainingConfig,
    UnitsConfig,
)
from raystt.config.run import RunBase, RunConfig, load_run, to_yaml
from raystt.config.yaml_source import ConfigError, Problem

__all__ = [
    "BaseLmConfig",
    "ConfigError",
    "CorpusConfig",
    "EvaluationConfig",
    "InterleavingConfig",
    "LanguageSizes",
    "ModelConfig",
    "Problem",
    "ResourcesConfig",
    "RunBase",
    "RunConfig",
    "TrainingConfig",
    "UnitsConfig",
    "load_run",
    "to_yaml",
]
