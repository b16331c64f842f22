"""Sizes: parameters of the models, bytes of the processes that hold them and of what they write.

Mixed precision with Adam keeps 2 bytes of weights, 2 of gradients and 12 of optimiser state (an
fp32 copy and two moments) a parameter; ZeRO divides them by the workers, the state from stage 1
on, gradients from 2, weights from 3 (Rajbhandari et al. 2020, section 3).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from raystt.checking.lengths import Lengths, frames
from raystt.config import CorpusConfig, EvaluationConfig, RunBase, RunConfig
from raystt.corpus.card import Card
from raystt.hub import pinned, read_config
from raystt.readers.grammar import LEXICONS, words
from raystt.recognition.protocols import PROTOCOLS
from raystt.speech import CEPSTRA, MFCC

NEW_TOKENS = 8  # framing, mask and modality tokens beside the units
_RECOGNISERS = {  # parameters by what a name has, else by protocol: large-v3, large
    "turbo": 809e6, "whisper-tiny": 39e6, "whisper-base": 74e6, "whisper-small": 244e6,
    "whisper-medium": 769e6, "whisper": 1.54e9, "fairseq-wav2vec2": 0.317e9,
}  # fmt: skip

_DIMENSION = 1024  # of the large encoders, where there is no config to read

Bytes = dict[str, float]
"""Bytes by what they are for."""


@dataclass(frozen=True)
class Model:
    """A decoder of LLaMA's kind: rotary attention, a gated feed-forward part, no biases.

    `basis` says where the sizes come from; `attention` and `kv` are the widths of all heads of
    queries, and of keys or values; a `tied` head is the embedding table.
    """

    basis: str
    layers: int
    hidden: int
    attention: int
    kv: int
    feed_forward: int
    vocabulary: int
    tied: bool

    @property
    def matrices(self) -> int:
        """Parameters that multiply each token: all but norms and the input table."""
        a_row = 2 * self.attention + 2 * self.kv + 3 * self.feed_forward
        return self.hidden * (self.layers * a_row + self.vocabulary)

    @property
    def parameters(self) -> int:
        """All parameters, tied ones once."""
        table = 0 if self.tied else self.vocabulary
        return self.matrices + (2 * self.layers + 1 + table) * self.hidden

    def trained(self, run: RunConfig, new: int) -> int:
        """Count what a run trains: all, or adapters and the rows of the `new` tokens."""
        if run.model.lora is None:
            return self.parameters
        sides = 7 * self.hidden + 2 * self.attention + 2 * self.kv + 3 * self.feed_forward
        rows = new * self.hidden * (1 if self.tied else 2)
        return self.layers * run.model.lora.rank * sides + rows


PUBLISHED = {
    "meta-llama/Llama-3.2-1B": Model(
        "published sizes of meta-llama/Llama-3.2-1B",
        layers=16, hidden=2048, attention=2048, kv=512, feed_forward=8192, vocabulary=128256,
        tied=True,
    )
}  # fmt: skip
"""Sizes of the hub's models that shipped configs name, for machines that have no copy of them."""


def base_model(base: RunBase, card: Card | None) -> Model | None:
    """Return the sizes of `model.base` without units, None if nothing here has them."""
    name, _ = pinned(base.model.base)
    if name != "corpus":
        try:
            return _of_config(read_config(base.model.base), f"config.json of {name}")
        except (KeyError, TypeError, ValueError):
            return PUBLISHED.get(name)  # no config, or not of this kind
    if base.corpus.reader != "embedded":
        return None
    lm = base.corpus.base
    if card is not None:
        vocabulary = card.tokenizer.text_vocabulary
    else:
        languages = {*base.corpus.languages, base.corpus.target} & LEXICONS.keys()
        vocabulary = len({word for name in languages for word in words(name)}) + NEW_TOKENS
    wide = -(-lm.hidden * 11 // 4 // 32) * 32  # as `training.model.new_llama`
    return Model("corpus.base", lm.layers, lm.hidden, lm.hidden, lm.hidden, wide, vocabulary, True)


def _of_config(data: dict[str, Any], basis: str) -> Model:
    hidden, heads = int(data["hidden_size"]), int(data["num_attention_heads"])
    width = int(data.get("head_dim") or hidden // heads)
    return Model(
        basis=basis,
        layers=int(data["num_hidden_layers"]),
        hidden=hidden,
        attention=heads * width,
        kv=int(data.get("num_key_value_heads") or heads) * width,
        feed_forward=int(data["intermediate_size"]),
        vocabulary=int(data["vocab_size"]),
        tied=bool(data.get("tie_word_embeddings", False)),
    )


def with_units(model: Model, base: RunBase, card: Card | None) -> tuple[Model, int]:
    """Add the tokens that the model does not know; return it and their number."""
    own = base.model.base == "corpus"
    if card is not None:
        # the corpus' own text LM counts its text tokens as its own, a pretrained one need not
        known = card.tokenizer.text_vocabulary if own else card.tokenizer.base_vocabulary
        new = card.vocabulary - known
    else:
        units = base.corpus.units
        new = units.source + (units.target or 0) + (0 if own else NEW_TOKENS)
    return replace(model, vocabulary=model.vocabulary + new), new


def recogniser(evaluation: EvaluationConfig) -> tuple[float, str | None]:
    """Return the parameters of the recogniser, and what they rest on if it is a pretrained one."""
    name = evaluation.asr_model or PROTOCOLS[evaluation.asr].model
    if name is None:
        return 0.0, None
    data, plain = read_config(name), pinned(name)[0]
    try:  # Whisper's names, or those of Wav2Vec2, which has no decoder
        width = int(data.get("d_model") or data["hidden_size"])
        wide = int(data.get("encoder_ffn_dim") or data["intermediate_size"])
        encoder = int(data.get("encoder_layers") or data["num_hidden_layers"])
        a_layer = 4 * width**2 + 2 * width * wide
        decoder = int(data.get("decoder_layers") or 0) * (a_layer + 4 * width**2)
        return encoder * a_layer + decoder + width * int(data["vocab_size"]), plain
    except (KeyError, TypeError, ValueError):
        named = next((part for part in _RECOGNISERS if part in plain), evaluation.asr)
        assumed = _RECOGNISERS.get(named, 0.0)
        return assumed, f"{plain}, assumed to have {assumed / 1e9:.2g} G parameters"


def trainer_memory(model: Model, run: RunConfig, lengths: Lengths, new: int, bf16: bool) -> Bytes:
    """Return what one training process holds.

    A layer keeps for its backward pass what its matrices, rotary embedding and gate read, and its
    norms in fp32; under checkpointing it keeps its input alone, and one layer at a time all of
    that. Logits of the predicted tokens are kept in `size` bytes, and three copies in fp32.
    """
    stage, workers = run.training.zero_stage, run.resources.workers_per_trainer
    size, trained = 2 if bf16 else 4, model.trained(run, new)
    copy = 4 if bf16 or stage else 0  # the fp32 weights that Adam updates, where they are apart
    kept = 4 * model.hidden + 3 * model.attention + 3 * model.kv + 4 * model.feed_forward
    a_layer = size * kept + 16 * model.hidden
    a_token = model.layers * a_layer
    if run.model.gradient_checkpointing:
        a_token = model.layers * size * model.hidden + a_layer
    tokens = run.training.micro_batch_tokens
    share = lengths.generated(run.interleaving) / lengths.tokens(run.interleaving, 0.0)
    return {
        "weights": size * model.parameters / (workers if stage >= 3 else 1),
        "gradients": size * trained / (workers if stage >= 2 else 1),
        "Adam": (8 + copy) * trained / (workers if stage >= 1 else 1),
        "activations": float(tokens * a_token),
        "logits": share * tokens * model.vocabulary * (12 + (size if size < 4 else 0)),
    }


def evaluator_memory(model: Model, run: RunConfig, lengths: Lengths) -> Bytes:
    """Return what one evaluation process holds; models are loaded in fp32."""
    longest = lengths.source_units + 2 + run.evaluation.max_new_tokens
    return {
        "weights": 4.0 * model.parameters,
        "cache": 8 * model.layers * model.kv * run.evaluation.batch * longest,
        "recogniser": 4 * recogniser(run.evaluation)[0],
    }


def feature_bytes(corpus: CorpusConfig, one: Lengths) -> float:
    """Return the size of the features that k-means is fitted to, fp32, while a corpus is made."""
    if corpus.units.codebook is not None:
        return 0.0
    name, dimension = corpus.units.encoder, 2 * CEPSTRA
    if name not in MFCC:
        dimension = int(read_config(name).get("hidden_size") or _DIMENSION)
    return 4.0 * dimension * frames(corpus, one) * corpus.units.sample


def row_bytes(lengths: Lengths) -> float:
    """Return the size of a pair in the compressed shards: 2 a unit, and texts, offsets and ids."""
    return 2 * (lengths.source_units + lengths.target_units) + 300
