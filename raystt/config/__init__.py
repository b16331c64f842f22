"""The configs of a run and of a search: strict, frozen models over one YAML file.

`load_run(path)` reads a run; `load_search(path)` reads a search, whose `base` is a run without its
name, seed and language. An unknown key, a wrong type or a value out of range is refused with file,
line, key, reason and fix, all problems of a file together (`ConfigError`).

```yaml
space:
  schedule.shape: {choice: [linear, polynomial]}
  schedule.initial: {float: [0.5, 1.0]}
  schedule.power: {float: [0.5, 3.0], log: true, when: {schedule.shape: polynomial}}
  training.warmup: {float: [0.0, 0.2], step: 0.05, languages: [es]}
```

Before its proposals a search runs what is fixed: references, and `ablations` of them. A `Space` is
plain data: it pickles, and asks an Optuna trial for values without importing Optuna.
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
from raystt.config.entry import Entry
from raystt.config.loading import load_any, load_run, load_search, parse_any
from raystt.config.parts import (
    EvaluationConfig,
    LoraConfig,
    ModelConfig,
    ResourcesConfig,
    TrainingConfig,
)
from raystt.config.run import RunBase, RunConfig, to_yaml
from raystt.config.search import (
    BASELINE,
    OBJECTIVES,
    REFERENCES,
    AblationConfig,
    FidelityConfig,
    Objective,
    SearchConfig,
)
from raystt.config.space import Space
from raystt.config.yaml_source import ConfigError, Problem

__all__ = [
    "AblationConfig",
    "AlignmentConfig",
    "BaseLmConfig",
    "ConfigError",
    "CorpusConfig",
    "Entry",
    "EvaluationConfig",
    "FidelityConfig",
    "FinetuneConfig",
    "LanguageSizes",
    "LoraConfig",
    "ModelConfig",
    "OBJECTIVES",
    "Objective",
    "Problem",
    "QualityConfig",
    "BASELINE",
    "REFERENCES",
    "ResourcesConfig",
    "RunBase",
    "RunConfig",
    "SearchConfig",
    "SourcesConfig",
    "Space",
    "TrainingConfig",
    "UnitsConfig",
    "VocoderConfig",
    "load_any",
    "load_run",
    "load_search",
    "parse_any",
    "to_yaml",
]
