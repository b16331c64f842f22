"""How long an MP3 file is, from the headers of its frames.

An encoder may put a count of frames into the first one (a Xing or Info tag). Decoders believe it,
and where it is missing they guess from the bit rate of the first frame and the size of the file:
too much after a large picture, too little or too much if the bit rate varies. libsndfile stops
decoding where its guess ends.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce

# kbit/s of layer III by the header's index, and Hz of MPEG-1; 0 is what cannot be walked over.
_BIT_RATES = {
    True: (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    False: (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
}
_RATES = (44100, 48000, 32000, 0)
_DIVISORS = {3: 1, 2: 2, 0: 4}  # of the rate, by the header's version: MPEG-1, 2 and 2.5


@dataclass(frozen=True)
class Mp3Length:
    """What the frames of an MP3 file say.

    Attributes:
        counted: whether the first frame has a count, which is then what decoders go by.
        samples: samples of the whole frames, up to the first thing that is none.
        cut: whether the file ends within a frame.
    """

    counted: bool
    samples: int
    cut: bool


def mp3_length(data: bytes) -> Mp3Length:
    """Walk over the frames of an MP3 file (layer III), past the ID3 tag in front of them."""
    at = 0
    if data[:3] == b"ID3":  # its size has seven bits a byte
        at = 10 + reduce(lambda high, low: high << 7 | low, data[6:10], 0)
    counted, samples = _counts(data[at : at + 64]), 0
    while (frame := _frame(data[at : at + 4])) is not None:
        length, frame_samples = frame
        if at + length > len(data):
            return Mp3Length(counted, samples, cut=True)
        at += length
        samples += frame_samples
    return Mp3Length(counted, samples, cut=False)


def _counts(frame: bytes) -> bool:
    at = max(frame.find(b"Xing"), frame.find(b"Info"))
    if at < 0:
        return False
    flags, frames = frame[at + 4 : at + 8], frame[at + 8 : at + 12]
    return bool(flags and flags[-1] & 1) and any(frames)


def _frame(header: bytes) -> tuple[int, int] | None:
    """Return length (bytes) and samples of a frame, None if it is none that can be walked over."""
    if len(header) < 4 or header[0] != 0xFF or header[1] & 0xE0 != 0xE0:
        return None
    version, layer = header[1] >> 3 & 3, header[1] >> 1 & 3
    if version not in _DIVISORS or layer != 1:
        return None
    first = version == 3
    bit_rate, rate = _BIT_RATES[first][header[2] >> 4], _RATES[header[2] >> 2 & 3]
    if not bit_rate or not rate:
        return None
    samples = 1152 if first else 576
    padding = header[2] >> 1 & 1
    return samples // 8 * bit_rate * 1000 * _DIVISORS[version] // rate + padding, samples
