"""Rows for the units and special tokens that a pretrained model has not seen.

The rows from `card.tokenizer.base_vocabulary` on are started by one of three rules, in the input
embeddings and in an output head of its own:

- `mean`: the mean of the known rows. Every new token is as likely as the average one and all of
  them are the same vector at first.
- `mean_noise`: a draw from a Gaussian with the known rows' mean and standard deviation in every
  dimension. The factor on the deviation is 1: new rows are then as long, and as far from one
  another, as the rows of words, so the first layer can tell units apart at once and Adam's steps
  move them no faster than words.
- `kmeans`: the same statistics, but the deviation of a unit is a random projection of its k-means
  centroid. Random projections keep angles, so units that sound alike start alike. Special tokens,
  which have no centroid, start by `mean_noise`.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from transformers.modeling_utils import PreTrainedModel

from raystt.corpus.card import Card
from raystt.training.model import ModelError

_MULTIPLE = 128
_MARK = "raystt_vocabulary"  # in the config of a model that was extended: its vocabulary


def read_centroids(corpus: Path, card: Card) -> torch.Tensor:
    """Read the centroids of all units, fp32 `[units, features]`, each feature standardised.

    A feature is standardised over the clusters of its codebook, so that it counts as much as the
    others whatever scale the file keeps it in.

    Raises:
        ModelError: A codebook is missing, damaged, or of another size than the card says.
    """
    books = [card.units.source, card.units.target]
    if books[0].path == books[1].path:
        books = books[:1]
    parts = []
    for book in sorted(books, key=lambda book: book.offset):
        path = corpus / book.path
        try:
            centroids = load_file(path)["centroids"].float()
        except (OSError, KeyError, SafetensorError) as error:
            reason = f"{path}: not a codebook ({error}); model.embedding_init kmeans needs it"
            raise ModelError(f"{reason}: prepare the corpus again, or set mean_noise") from error
        if len(centroids) != book.clusters:
            raise ModelError(
                f"{path}: {len(centroids)} clusters, the card says {book.clusters}; prepare the "
                "corpus again"
            )
        spread = centroids.std(0, correction=0).clamp_min(1e-6)
        parts.append((centroids - centroids.mean(0)) / spread)
    if len({part.shape[1] for part in parts}) > 1 or sum(map(len, parts)) != card.units.total:
        raise ModelError(f"{corpus}: its codebooks do not fit together; set mean_noise")
    return torch.cat(parts)


@torch.no_grad()
def extend(
    model: PreTrainedModel,
    card: Card,
    *,
    init: str,
    seed: int,
    centroids: torch.Tensor | None = None,
) -> bool:
    """Give a model rows for the corpus' whole vocabulary, unless it has them.

    The table is filled up to a multiple of 128 rows by rows of no token, which is never asked for
    and never generated. A model with more rows than the vocabulary keeps them: some pad their
    table, and tokens get rows that nothing was ever trained on. A model that was extended before
    says so in its config, and is left as it is; so is the corpus' own text LM. The result depends
    on nothing but the arguments: every rank starts the same rows.

    Args:
        model: A causal LM; its embeddings and head are replaced in place.
        card: The corpus card.
        init: "mean", "mean_noise" or "kmeans".
        seed: Seed of noise and projection.
        centroids: fp32 `[units, features]` of `read_centroids`, for `kmeans`.

    Returns:
        Whether rows were started.

    Raises:
        ModelError: The model has no token embeddings, or fewer than the tokenizer has tokens, so
            that the tokenizer is not the model's.
    """
    name = model.config.name_or_path or type(model).__name__
    try:
        rows = model.get_input_embeddings().weight.shape[0]
    except (AttributeError, NotImplementedError) as error:
        raise ModelError(f"{name}: it has no table of token embeddings to extend") from error
    known = card.tokenizer.base_vocabulary
    if rows < known:
        raise ModelError(
            f"{name}: {rows} token embeddings, the corpus' tokenizer has {known} tokens of its "
            "own: it is not the model's; prepare the corpus with `corpus.tokenizer` of model.base"
        )
    # The corpus' own text LM has learnt no unit, but its rows were drawn with its others.
    own = known == card.tokenizer.text_vocabulary and rows >= card.vocabulary
    if own or getattr(model.config, _MARK, None) == card.vocabulary:
        return False
    if rows < card.vocabulary:
        # Matrix products over a number of rows that has no such factor take three times as long.
        model.resize_token_embeddings(
            card.vocabulary, mean_resizing=False, pad_to_multiple_of=_MULTIPLE
        )
    setattr(model.config, _MARK, card.vocabulary)
    table = model.get_input_embeddings().weight
    head = model.get_output_embeddings()
    generator = torch.Generator().manual_seed(seed)
    _start(table, rows, card, init, generator, centroids)
    if head is not None and head.weight is not table:
        _start(head.weight, rows, card, init, generator, centroids)
    bias = getattr(head, "bias", None)
    if bias is not None:
        bias[known:] = bias[:known].mean()
    return True


def _start(
    table: torch.Tensor,
    rows: int,
    card: Card,
    init: str,
    generator: torch.Generator,
    centroids: torch.Tensor | None,
) -> None:
    """Write the new rows of `[vocabulary, hidden]`, which had `rows` before."""
    known, total, width = card.tokenizer.base_vocabulary, card.vocabulary, table.shape[1]
    mean = table[:known].mean(0, dtype=torch.float64)
    spread = (table[:known] - mean.to(table)).square_().mean(0, dtype=torch.float64).sqrt()
    deviation = torch.zeros(total - known, width)
    if init != "mean":
        deviation = torch.randn(total - known, width, generator=generator)
    if init == "kmeans":
        if centroids is None:
            raise ValueError("kmeans needs the centroids")
        projection = torch.randn(centroids.shape[1], width, generator=generator)
        units = centroids @ projection
        # The projection's own length means nothing: the units get the spread of the known rows.
        units = (units - units.mean(0)) / units.std(0, correction=0).clamp_min(1e-6)
        first = card.tokenizer.unit_offset - known
        deviation[first : first + card.units.total] = units
    table[known:total] = (mean + deviation.to(mean) * spread).to(table)
    table[max(rows, total) :] = mean.to(table)
