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
        frames: float32 `[frames, outputs]`, what the network is to say.
    """

    units: Tensor
    durations: Tensor
    frames: Tensor


class UnitNetwork(nn.Module):
    """Residual convolutions over units, then over the frames that they last.

    Frames are unit frames, or those of a mel vocoder where these do not divide a unit frame. Such
    a frame belongs to the unit frame that its time lies in.
    """

    def __init__(
        self,
        clusters: int,
        hidden: int,
        outputs: int,
        *,
        frame_samples: int,
        step: int,
        durations: bool,
    ) -> None:
        """Make a network with fresh weights.

        Args:
            clusters: units of the codebook; one more index, `clusters`, is the edge.
            hidden: channels.
            outputs: numbers in a frame.
            frame_samples: samples of a unit frame.
            step: samples of a frame.
            durations: whether there are durations to predict: not, where all of them are 1.
        """
        super().__init__()
        self.edge = clusters
        self._frame_samples, self._step = frame_samples, step
        self.embedding = nn.Embedding(clusters + 1, hidden)
        self.unit_layers = nn.ModuleList(_layer(hidden) for _ in range(_UNIT_LAYERS))
        self.frame_layers = nn.ModuleList(_layer(hidden) for _ in range(_FRAME_LAYERS))
        self.duration = nn.Linear(hidden, 1) if durations else None
        self.output = nn.Linear(hidden, outputs)
        # Frames of one unit are told apart by how far into it they lie.
        self.phase = nn.Linear(1, hidden, bias=False) if step != frame_samples else None

    def frames(self, unit_frames: int) -> int:
        """Return the frames that a sentence of so many unit frames has."""
        return -(-unit_frames * self._frame_samples // self._step)

    def synthesize(
        self, units: Tensor, longest: int, durations: Tensor | None = None
    ) -> tuple[Tensor, int]:
        """Say a sentence.

        Args:
            units: int64 `[units]`.
            longest: longest duration to predict, unit frames.
            durations: int64 `[units]`, from 1 on; predicted if None.

        Returns:
            float32 `[frames, outputs]`, and the unit frames that they last.
        """
        row = self._row([units])
        state = self._units(row)
        every = torch.ones_like(row)
        if durations is not None:
            every[GAP:-GAP] = durations.to(row.device)
        elif self.duration is not None:
            logs = self.duration(state)[GAP:-GAP, 0]
            every[GAP:-GAP] = logs.exp().round().clamp(1, longest).long()
        return self._frames(state, every, row != self.edge), int(every[GAP:-GAP].sum())

    def forward(
        self, examples: Sequence[Example], share: tuple[float, float] = (1.0, 1.0)
    ) -> Tensor:
        """Return the loss: the mean distance of frames and, at a lower weight, of log durations.

        Args:
            examples: sentences, one or more.
            share: which part of a larger batch's frames and units these sentences have. The sum
                over the parts is the loss of that batch.
        """
        row = self._row([example.units for example in examples])
        inside = row != self.edge
        durations = torch.ones_like(row)
        durations[inside] = torch.cat([example.durations for example in examples]).to(row.device)
        state = self._units(row)
        target = torch.cat([example.frames for example in examples]).to(row.device)
        loss = functional.l1_loss(self._frames(state, durations, inside), target) * share[0]
        if self.duration is None:
            return loss
        logs = self.duration(state)[inside, 0]
        distance = functional.l1_loss(logs, durations[inside].log()) * share[1]
        return loss + _DURATION_WEIGHT * distance

    def _row(self, sentences: Sequence[Tensor]) -> Tensor:
        gap = torch.full((GAP,), self.edge)
        row = torch.cat([gap, *(part for units in sentences for part in (units, gap))])
        return row.to(self.embedding.weight.device)

    def _units(self, row: Tensor) -> Tensor:
        state: Tensor = self.embedding(row)
        for layer in self.unit_layers:
            state = state + _apply(layer, state)
        return state

    def _frames(self, state: Tensor, durations: Tensor, inside: Tensor) -> Tensor:
        """Return `[frames, outputs]` of the sentences of a row, one behind the other."""
        state = state.repeat_interleave(durations, dim=0)
        inside = inside.repeat_interleave(durations)
        if self.phase is not None:
            places, offsets = self._places(inside)
            state = state[places] + self.phase(offsets[:, None])
            inside = inside[places]
        for layer in self.frame_layers:
            state = state + _apply(layer, state)
        frames: Tensor = self.output(state)
        return frames[inside]

    def _places(self, inside: Tensor) -> tuple[Tensor, Tensor]:
        """Find the unit frame that each frame lies in, and how far into it, 0 to 1.

        Args:
            inside: bool `[unit frames]`, false at the edges; these keep one frame each.
        """
        places, offsets, start = [], [], 0
        kinds, counts = torch.unique_consecutive(inside, return_counts=True)
        for sentence, count in zip(kinds.tolist(), counts.tolist(), strict=True):
            if sentence:
                samples = torch.arange(self.frames(count)) * self._step
                places.append(start + samples // self._frame_samples)
                offsets.append((samples % self._frame_samples) / self._frame_samples)
            else:
                places.append(start + torch.arange(count))
                offsets.append(torch.zeros(count))
            start += count
        return torch.cat(places).to(inside.device), torch.cat(offsets).to(inside.device)


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
