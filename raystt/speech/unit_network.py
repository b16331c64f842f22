"""The network of the vocoder "conv": from units to durations and spectrum frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

_UNIT_LAYERS, _FRAME_LAYERS, _KERNEL = 2, 3, 3

GAP = (_UNIT_LAYERS + _FRAME_LAYERS) * (_KERNEL // 2)
"""Edge units around a sentence: as many as the convolutions see to either side.

Sentences lie in one row, parted by edges. So no sentence sees another, and one that is synthesized
alone is what it was in a batch.
"""

_DURATION_WEIGHT = 0.1  # durations are the easier task; more of it costs spectrum


@dataclass(frozen=True)
class Example:
    """A training sentence.

    Attributes:
        units: int64 `[units]`, indices of the codebook.
        durations: int64 `[units]`, unit frames.
        frames: float32 `[unit frames, outputs]`, what the network is to say.
    """

    units: Tensor
    durations: Tensor
    frames: Tensor


class UnitNetwork(nn.Module):
    """Residual convolutions over units, then over the unit frames that they last."""

    def __init__(self, clusters: int, hidden: int, outputs: int) -> None:
        """Make a network with fresh weights.

        Args:
            clusters: units of the codebook; one more index, `clusters`, is the edge.
            hidden: channels.
            outputs: numbers in a unit frame.
        """
        super().__init__()
        self.edge = clusters
        self.embedding = nn.Embedding(clusters + 1, hidden)
        self.unit_layers = nn.ModuleList(_layer(hidden) for _ in range(_UNIT_LAYERS))
        self.frame_layers = nn.ModuleList(_layer(hidden) for _ in range(_FRAME_LAYERS))
        self.duration = nn.Linear(hidden, 1)
        self.output = nn.Linear(hidden, outputs)

    def synthesize(self, units: Tensor, longest: int) -> Tensor:
        """Return `[unit frames, outputs]` of int64 `[units]`, each of 1 to `longest` frames."""
        state, logs = self._units(self._row([units]))
        durations = logs.exp().round().clamp(1, longest).long()
        durations[:GAP] = durations[-GAP:] = 1
        return self._frames(state, durations)[GAP:-GAP]

    def loss(self, examples: Sequence[Example]) -> Tensor:
        """Return the mean distance of frames and, at a lower weight, of log durations."""
        row = self._row([example.units for example in examples])
        inside = row != self.edge
        durations = torch.ones_like(row)
        durations[inside] = torch.cat([example.durations for example in examples])
        state, logs = self._units(row)
        frames = self._frames(state, durations)[inside.repeat_interleave(durations)]
        target = torch.cat([example.frames for example in examples])
        distance = functional.l1_loss(logs[inside], durations[inside].log())
        return functional.l1_loss(frames, target) + _DURATION_WEIGHT * distance

    def _row(self, sentences: Sequence[Tensor]) -> Tensor:
        gap = torch.full((GAP,), self.edge)
        return torch.cat([gap, *(part for units in sentences for part in (units, gap))])

    def _units(self, row: Tensor) -> tuple[Tensor, Tensor]:
        state = self.embedding(row)
        for layer in self.unit_layers:
            state = state + _apply(layer, state)
        return state, self.duration(state)[:, 0]

    def _frames(self, state: Tensor, durations: Tensor) -> Tensor:
        state = state.repeat_interleave(durations, dim=0)
        for layer in self.frame_layers:
            state = state + _apply(layer, state)
        frames: Tensor = self.output(state)
        return frames


def _layer(hidden: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv1d(hidden, hidden, _KERNEL, padding=_KERNEL // 2),
        nn.GELU(),
        nn.Conv1d(hidden, hidden, 1),
    )


def _apply(layer: nn.Module, state: Tensor) -> Tensor:
    normal = functional.layer_norm(state, state.shape[-1:])
    change: Tensor = layer(normal.T[None])[0].T
    return change
