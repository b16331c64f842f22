"""Waveforms to text, and its normaliser; what scores it."""
