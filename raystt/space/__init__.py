"""The search space, and the config of a search.

```yaml
space:
  schedule.shape: {choice: [linear, polynomial]}
  schedule.initial: {float: [0.5, 1.0]}
  schedule.power: {float: [0.5, 3.0], log: true, when: {schedule.shape: polynomial}}
  training.warmup: {float: [0.0, 0.2], step: 0.05, languages: [es]}
```

Before its proposals a search runs what is fixed: references, and `ablations` of them.

A `Space` is plain data: it pickles, and asks an Optuna trial for values without importing Optuna.
"""

from raystt.space.entry import Entry
from raystt.space.parameters import Space
from raystt.space.search import (
    REFERENCES,
    AblationConfig,
    FidelityConfig,
    SamplerConfig,
    SearchConfig,
    load_any,
    load_search,
    parse_any,
)

__all__ = [
    "REFERENCES",
    "AblationConfig",
    "Entry",
    "FidelityConfig",
    "SamplerConfig",
    "SearchConfig",
    "Space",
    "load_any",
    "load_search",
    "parse_any",
]
