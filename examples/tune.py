"""raystt's searcher in a Ray Tune run of one's own, with a trainable of one's own.

    python examples/tune.py

A trial's config is flat: language, trial, reference, seed, and the dotted keys of the space. The
trainable reports `asr_bleu`; here a formula stands for training, translating and transcribing.
"""

from pathlib import Path
from tempfile import mkdtemp

from ray import tune

import raystt

SPACE = """
name: mine
languages: [es, fr]
trials: 4
references: [paper]
sampler: tpe
space:
  schedule.shape: {choice: [linear, cosine]}
  schedule.initial: {float: [0.5, 1.0]}
  schedule.end: {float: [0.5, 1.0]}
base:
  corpus: {languages: {es: {train: 300}, fr: {train: 1000}}}
"""


def train(config: dict) -> dict:
    """Stand for a training: the score of a schedule that gives text about half of its time."""
    keys = {k.removeprefix("schedule."): v for k, v in config.items() if k.startswith("schedule.")}
    schedule = raystt.from_dict(keys)
    text = sum(schedule.ratio(step / 100) for step in range(100)) / 100
    return {"asr_bleu": 30 - 100 * (text - 0.5) ** 2, "achieved_words": text}


def main() -> None:
    """Search eight trials in two studies, and show what Tune and Optuna know of them."""
    folder = Path(mkdtemp())
    (folder / "space.yaml").write_text(SPACE)
    searcher = raystt.StudySearcher(raystt.load_search(folder / "space.yaml"))
    settings = tune.TuneConfig(search_alg=searcher, num_samples=8, max_concurrent_trials=2)
    run = tune.RunConfig(storage_path=str(folder), name="mine", verbose=0)
    results = tune.Tuner(train, tune_config=settings, run_config=run).fit()
    table = results.get_dataframe()
    print(table[["config/language", "config/trial", "config/schedule.shape", "asr_bleu"]])
    for language, study in searcher.studies.items():
        best = max(study.finished(), key=lambda trial: trial.value)
        print(f"{language}: best #{best.number}, {best.value:.1f}, of {len(study.finished())}")


if __name__ == "__main__":
    main()
