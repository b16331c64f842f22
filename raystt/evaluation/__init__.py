"""Evaluation layer: generate units, vocode them, transcribe the speech, count BLEU statistics.

The statistics are additive over sentences, so an evaluation may be cut into parts, run anywhere
and merged before it is scored; a score is never an average of scores.
"""
