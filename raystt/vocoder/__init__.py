"""Units to waveforms."""
