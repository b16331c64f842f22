"""Search of text-ratio schedules for interleaved speech-text training, on Ray.

Importing the package imports nothing heavy: neither Ray nor torch.
"""

__version__ = "0.1.0"
