"""Speech: text to speech, units and alignment.

Everything audible passes through here as float32 mono waveforms at `SAMPLE_RATE`.
"""

SAMPLE_RATE = 16000
"""Samples a second of every waveform inside raystt (Hz)."""

MFCC = {"mfcc": 0.06, "mfcc_20ms": 0.02}
"""Encoders of speech without a trained network, and how long their frames are (s)."""

CEPSTRA = 20
"""Their coefficients; a frame has as many differences beside them."""
