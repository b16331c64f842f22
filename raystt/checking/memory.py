"""Memory of a training and of an evaluation process, and disk space, in bytes.

Mixed precision with Adam keeps 2 bytes of weights, 2 of gradients and 12 of optimiser state (an
fp32 copy and two moments) a parameter; ZeRO divides them by the workers, the state from stage 1
on, gradients from 2, weights from 3 (Rajbhandari et al. 2020, section 3).
"""

from __future__ import annotations

from raystt.checking.architecture import Architecture
from raystt.checking.lengths import Lengths
from raystt.config.run import RunConfig

RECOGNISERS = {"whisper": 1.54e9, "fairseq-wav2vec2": 0.317e9, "pocketsphinx": 0.0}
"""Parameters of the protocols' own recognisers: Whisper large-v3 and wav2vec2 large."""

_UNIT_BYTES = 2  # of a unit in a compressed shard
_ROW_BYTES = 300  # of the rest of a pair: texts, offsets, ids


def trainer_memory(
    model: Architecture, run: RunConfig, lengths: Lengths, *, units: int, bf16: bool
) -> dict[str, float]:
    """Return the bytes that one training process holds, by what they are for.

    Args:
        model: The model with its units.
        run: The run.
        lengths: Mean lengths: they give the share of the tokens that have a loss.
        units: Tokens that were added.
        bf16: Whether it computes in bf16.
    """
    stage, workers = run.training.zero_stage, run.resources.workers_per_trainer
    size = 2 if bf16 else 4
    trained = model.parameters()
    if run.model.lora:
        trained = model.adapters(run.model.lora.rank, units)
    copy = 4 if bf16 or stage else 0  # the fp32 weights that Adam updates, where they are apart
    return {
        "weights": size * model.parameters() / (workers if stage >= 3 else 1),
        "gradients": size * trained / (workers if stage >= 2 else 1),
        "Adam": (8 + copy) * trained / (workers if stage >= 1 else 1),
        "activations": activation_bytes(model, run, size),
        "logits": logit_bytes(model, run, lengths, size),
    }


def activation_bytes(model: Architecture, run: RunConfig, size: int) -> float:
    """Return the activations that a micro-batch keeps for its backward pass.

    A layer keeps what its matrices, rotary embedding and gate read, and its norms in fp32; under
    checkpointing it keeps its input alone, and one layer at a time all of that.
    """
    kv = model.kv_heads * model.head_width
    kept = 4 * model.hidden + 3 * model.attention_width + 3 * kv + 4 * model.feed_forward
    a_layer = size * kept + 16 * model.hidden
    a_token = model.layers * a_layer
    if run.model.gradient_checkpointing:
        a_token = model.layers * size * model.hidden + a_layer
    return float(run.training.micro_batch_tokens * a_token)


def logit_bytes(model: Architecture, run: RunConfig, lengths: Lengths, size: int) -> float:
    """Return the logits of the predicted tokens: in `size` bytes, and three copies in fp32."""
    whole = lengths.tokens(run.interleaving, 0.0)
    predicted = lengths.generated(run.interleaving) / whole * run.training.micro_batch_tokens
    return predicted * model.vocabulary * (12 + (size if size < 4 else 0))


def evaluator_memory(model: Architecture, run: RunConfig, lengths: Lengths) -> dict[str, float]:
    """Return the bytes that one evaluation process holds; models are loaded in fp32."""
    evaluation = run.evaluation
    longest = lengths.source_units + 2 + evaluation.max_new_tokens
    cache = 2 * model.layers * model.kv_heads * model.head_width * 4
    return {
        "weights": 4.0 * model.parameters(),
        "cache": cache * evaluation.batch * longest,
        "recogniser": 4 * RECOGNISERS[evaluation.asr],
    }


def state_bytes(model: Architecture, run: RunConfig, *, units: int, bf16: bool) -> float:
    """Return the size of the state that a segment leaves for the next: weights and optimiser."""
    trained = model.parameters()
    if run.model.lora:
        trained = model.adapters(run.model.lora.rank, units)
    return (2 if bf16 else 4) * model.parameters() + (12 if bf16 else 8) * trained


def model_bytes(model: Architecture, *, bf16: bool) -> float:
    """Return the size of a trained model as it is written."""
    return (2.0 if bf16 else 4.0) * model.parameters()


def shard_bytes(lengths: Lengths, pairs: int) -> float:
    """Return the size of the shards of `pairs` pairs."""
    return pairs * (_UNIT_BYTES * (lengths.source_units + lengths.target_units) + _ROW_BYTES)
