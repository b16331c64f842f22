"""What becomes of one run, as functions: it is trained, scored, translates, and is handed on.

They take a config or the path of its YAML file, and raise `raystt.errors.BadInput` for what the
caller can mend. Ray is started, or joined, for the time of the call, where it is needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raystt import hub, remote
from raystt.checking.installation import check_installation
from raystt.config import RunConfig, load_run, to_yaml
from raystt.config.loading import CONFIG_FILE, Infra, given
from raystt.config.run import changed_keys
from raystt.errors import BadInput
from raystt.files import remove, write_atomic
from raystt.progress import StageProgress
from raystt.training.jobs import MODEL

if TYPE_CHECKING:
    from raystt.evaluation.jobs import Scored
    from raystt.evaluation.translate import Translation


class RunInTheWay(BadInput):
    """The directory of a run holds another one, or none; the text says what to do."""


@dataclass(frozen=True)
class Trained:
    """A run that was trained.

    Attributes:
        model: Directory of its model.
        diverged_at: Step at which the loss was not finite; None = it was trained to the end.
        scores: One entry a split, as `evaluate` returns it; none if it diverged.
    """

    model: Path
    diverged_at: int | None
    scores: tuple[Scored, ...]


def train(
    config: Path | str | RunConfig,
    *,
    infra: Infra = None,
    resume: bool = False,
    local: bool = False,
    progress: bool = True,
    verbose: bool = False,
) -> Trained:
    """Train one run, evaluate it, and leave `<storage>/<name>/` with its model.

    Args:
        config: The run.
        infra: Where it runs, see `Infra`.
        resume: Go on with a run that was stopped.
        local: Train and evaluate in this process, without Ray, for a debugger; the corpus must be
            prepared.
        progress: Show the steps on standard error.
        verbose: Let what workers print reach the terminal.

    Raises:
        RunInTheWay: The directory holds a run and `resume` is not set, or it was another run.
    """
    check_installation()
    run = given(config, infra, load_run)
    directory, own = remote.local(run.storage) / run.name, to_yaml(run)
    from raystt.checking import check_prepared, check_run
    from raystt.training.states import DONE

    checked = check_run(config, infra, local=local)
    corpus = remote.local(run.corpus.path)
    splits = list(dict.fromkeys((run.evaluation.split, run.evaluation.report_split)))
    with ExitStack() as stack:
        stack.enter_context(_claimed(run, directory, resume))
        told = stack.enter_context(StageProgress(show=progress))
        for warning in checked.warnings:
            told.message(f"warning: {warning}")

        def on_step(step: Any) -> None:
            told("train", step.step, step.horizon)

        if local:
            from raystt.evaluation import alone

            parts = alone.load_judge, alone.train_run, alone.evaluate_model
        else:
            from raystt.cluster.start import ray_session
            from raystt.pools import single
            from raystt.preparation.prepare import prepare as prepare_corpus

            shared = [corpus, directory]
            session = stack.enter_context(
                ray_session(run.resources, shared=shared, verbose=verbose)
            )
            run = run.model_copy(update={"resources": session.resources})
            prepare_corpus(
                run.corpus, resources=run.resources, progress=told,
                interleaving=run.interleaving, on_message=told.message,
            )  # fmt: skip
            check_prepared(checked, config, infra, told.message)
            parts = single.load_judge, single.train_run, single.evaluate_model
        load_judge, train_run, evaluate_model = parts
        load_judge(run, corpus)
        write_atomic(directory / CONFIG_FILE, own)
        trained = train_run(run, corpus, directory, on_step)
        remote.fetch(trained.model.parent, DONE)
        link = directory / MODEL
        if link.is_symlink() or remote.url_of(link):
            remove(link)
        link.symlink_to(trained.model.relative_to(directory))
        scores: tuple[Scored, ...] = ()
        if trained.diverged_at is None:
            # Other nodes know the state, and not what this one links to it.
            model = trained.model if remote.url_of(link) else link
            scores = evaluate_model(run, corpus, model, splits, directory)
    return Trained(link, trained.diverged_at, scores)


def evaluate(
    config: Path | str | RunConfig,
    *,
    infra: Infra = None,
    model: Path | str | None = None,
    split: str | None = None,
    verbose: bool = False,
) -> Scored:
    """Score a trained model.

    Args:
        config: The run, or a directory that holds `config.yaml` and `model/`, such as `best/es` of
            a search.
        infra: Where it runs, see `Infra`.
        model: Directory of the model; by default the one beside the config or that `train` left.
        split: "dev" or "test"; by default that of the run.
        verbose: Let what workers print reach the terminal.

    Returns:
        ASR-BLEU with its interval and signature, the other metrics, and the ceiling.

    Raises:
        RunInTheWay: There is no model.
    """
    check_installation()
    config, directory, found = _trained(config, model, infra)
    from raystt.cluster.start import ray_session
    from raystt.corpus.card import Card
    from raystt.pools.single import evaluate_model

    corpus = remote.local(config.corpus.path)
    Card.of_corpus(corpus)
    split = split or config.evaluation.split
    with ray_session(config.resources, shared=[corpus, directory], verbose=verbose) as session:
        config = config.model_copy(update={"resources": session.resources})
        return evaluate_model(config, corpus, found, [split], directory)[0]


def translate(model: Path | str, audio: Path | str, *, language: str | None = None) -> Translation:
    """Translate a recording: speech to speech, in this process and without Ray.

    Args:
        model: A trained run (its directory or YAML file), the best of a search
            (`runs/NAME/best/LANGUAGE`), a search, whose best of `language` is taken, or what
            `export` wrote.
        audio: The recording: any rate and format that libsndfile reads.
        language: The language that is spoken; a search of several needs it.

    Returns:
        The waveform, what the recogniser heard of it, and the texts of a chain of thought.

    Raises:
        RunInTheWay: There is no model.
        BadInput: The recording, or the language, cannot be used.
    """
    check_installation()
    from raystt.evaluation.export import exported
    from raystt.evaluation.translate import translate_recording

    if run := exported(Path(model)):
        found = Path(model).resolve()
    else:
        run, _, found = _trained(_best_of(Path(model), language), None)
    if language not in (None, run.language):
        raise RunInTheWay(f"{model}: it translates {run.language!r}, not {language!r}")
    return translate_recording(run, found, audio)


def export(model: Path | str, out: Path | str, *, language: str | None = None) -> Path:
    """Write a trained model as one directory that translates by itself, ready for a hub.

    Args:
        model: As for `translate`, but for what was exported already.
        out: The directory to write.
        language: The language that is spoken; a search of several needs it.

    Returns:
        `out`: transformers loads it, `raystt translate` takes it.

    Raises:
        RunInTheWay: There is no model.
        BadInput: There is something at `out` already, or it needs models of this machine.
    """
    from raystt.evaluation.export import export_model

    run, directory, found = _trained(_best_of(Path(model), language), None)
    card = directory / hub.MODEL_CARD
    told = card.read_text(encoding="utf-8") if card.exists() else None
    export_model(run, found, Path(out), told)
    return Path(out)


def _trained(
    config: Path | str | RunConfig, model: Path | str | None, infra: Infra = None
) -> tuple[RunConfig, Path, Path]:
    """Return a run, its directory, and that of its model."""
    from raystt.evaluation.export import exported

    directory: Path | None = None
    if isinstance(config, Path | str) and remote.is_url(config):
        config = _opened(config)
    if isinstance(config, Path | str) and Path(config).is_dir():
        if exported(Path(config)):
            raise RunInTheWay(
                f"{config}: an exported model translates, and that alone; give the run or the "
                "search that it came from"
            )
        directory = Path(config).resolve()
        config = directory / CONFIG_FILE
    config = given(config, infra, load_run)
    directory = directory or _opened(f"{config.storage}/{config.name}")
    found = Path(model or directory / MODEL).resolve()
    if not (found / hub.MODEL_CONFIG).exists():
        raise RunInTheWay(f"{found}: no model there; train the run first, or name --model")
    return config, directory, found


def _opened(place: Path | str) -> Path:
    """Return the directory of a run, brought up to date where it is a copy."""
    directory = remote.local(place)
    remote.refresh(directory)
    return directory


def _best_of(path: Path, language: str | None) -> Path:
    """Return the directory of a search's best; of what is no search, the path itself."""
    path = _opened(path) if remote.is_url(path) else path
    from raystt.searching.directory import BEST, RunDirectory

    if not RunDirectory(path).journal.exists():
        return path
    known = sorted(one.name for one in (path / BEST).glob("*/"))
    if language is None and len(known) == 1:
        return path / BEST / known[0]
    if language not in known:
        asked = "no language was named" if language is None else f"it has no best of {language!r}"
        raise RunInTheWay(
            f"{path}: {asked}; give --language, one of: {', '.join(known) or 'none is finished'}"
        )
    return path / BEST / language


@contextmanager
def _claimed(run: RunConfig, directory: Path, resume: bool) -> Iterator[None]:
    """Hold a directory that is this run's own, or nobody's yet, for the time of the block."""
    running = RunInTheWay(
        f"{directory}: this run is being trained by another process; wait for it, or give this "
        "one another `name`"
    )
    with remote.held(directory, running):
        _check_same(run, directory / CONFIG_FILE, resume)
        yield


def _check_same(run: RunConfig, config: Path, resume: bool) -> None:
    """Refuse a directory of another run, and one to be gone on with that nobody asked for."""
    if config.exists():
        if not resume:
            raise RunInTheWay(
                f"{remote.named(config.parent)}: holds a run already; continue "
                "it with --resume, delete the directory, or give this run another `name`"
            )
        before = load_run(config)
        if before.fingerprint() != run.fingerprint():
            raise RunInTheWay(
                f"{config}: this run was started with another config "
                f"({changed_keys(before, run)}); resume it with the same one, or give "
                "this one another `name`"
            )
