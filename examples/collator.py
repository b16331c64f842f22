"""Interleave your own tokens in a torch DataLoader: python examples/collator.py

The loader hands (step, row) to the data set, so that a batch knows its place in the training: its
ratio, and with it its tokens, are the same with any number of workers and after any resume.
"""

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset

from raystt.interleaving.rules import Interleaving, utterance_key
from raystt.interleaving.sequences import IGNORED, Layout, Side, interleave
from raystt.schedule import Linear

STEPS, BATCH, PADDING = 8, 4, 0
SCHEDULE = Linear(initial=0.9, end=0.8)
INTERLEAVING = Interleaving(rule="independent")
LAYOUT = Layout(bos=1, separator=2, eos=3, mask=4, speech=5, text=6)


class Pairs(Dataset):
    """Twelve made-up pairs; a word is (text ids under 1000, ids of speech units from there on)."""

    def __len__(self):
        return 12

    def __getitem__(self, place):
        step, row = place
        words = [([10 + row + n], [1000 + row + n, 1001 + row + n]) for n in range(6)]
        pair = {"id": f"pair-{row}", "source": words, "target": words[::-1]}
        return {**pair, "step": step, "epoch": step * BATCH // len(self)}


def collate(rows):
    """Return padded tokens and labels [utterances, longest], and the share of text."""
    made = interleave(
        Side.from_words([row["source"] for row in rows]),
        Side.from_words([row["target"] for row in rows]),
        SCHEDULE.ratio(rows[0]["step"] / STEPS),
        keys=np.array([utterance_key(row["id"]) for row in rows], np.uint64),
        epochs=np.array([row["epoch"] for row in rows]),
        seed=1, interleaving=INTERLEAVING, layout=LAYOUT,
    )  # fmt: skip
    lengths = torch.from_numpy(made.offsets).diff().tolist()
    tokens, labels = torch.from_numpy(made.tokens).long(), torch.from_numpy(made.labels)
    return {
        "input_ids": pad_sequence(tokens.split(lengths), True, PADDING),
        "labels": pad_sequence(labels.split(lengths), True, IGNORED),  # not shifted, as in HF
        "achieved": made.achieved_words,
    }


if __name__ == "__main__":
    places = [[(s, (s * BATCH + n) % 12) for n in range(BATCH)] for s in range(STEPS)]
    for step, batch in enumerate(DataLoader(Pairs(), batch_sampler=places, collate_fn=collate)):
        ratio, text, shape = SCHEDULE.ratio(step / STEPS), batch["achieved"], batch["labels"].shape
        print(f"step {step}: ratio {ratio:.2f}, text {text:.2f}, batch {list(shape)}")
