"""The config of one run: strict, frozen models over one YAML file.

`load_run(path)` reads a run; `raystt.space.load_search(path)` reads a search, whose `base` is a
run without its name, seed and language. An unknown key, a wrong type or a value out of range is
refused with file, line, key, reason and fix, all problems of a file together (`ConfigError`).
"""

from raystt.config.corpus import (
    AlignmentConfig,
    BaseLmConfig,
    CorpusConfig,
    FinetuneConfig,
    LanguageSizes,
    QualityConfig,
    SourcesConfig,
    UnitsConfig,
    VocoderConfig,
)
from raystt.config.parts import (
    EvaluationConfig,
    InterleavingConfig,
    LoraConfig,
    ModelConfig,
    ResourcesConfig,
    TrainingConfig,
)
from raystt.config.run import RunBase, RunConfig, load_run, to_yaml
from raystt.config.yaml_source import ConfigError, Problem

__all__ = [
    "AlignmentConfig",
    "BaseLmConfig",
    "ConfigError",
    "CorpusConfig",
    "EvaluationConfig",
    "FinetuneConfig",
    "InterleavingConfig",
    "LanguageSizes",
    "LoraConfig",
    "ModelConfig",
    "Problem",
    "QualityConfig",
    "ResourcesConfig",
    "RunBase",
    "RunConfig",
    "SourcesConfig",
    "TrainingConfig",
    "UnitsConfig",
    "VocoderConfig",
    "load_run",
    "to_yaml",
]
