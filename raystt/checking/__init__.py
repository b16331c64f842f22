"""Check a config, and what it needs on this machine, without starting anything.

`check(path)` reads the config, the corpus card and the footers of the shards. Neither Ray nor torch
is imported, so that a mistake is told in about a second and not after a cluster has come up.
"""

from raystt.checking.look import check
from raystt.checking.report import CheckReport, LanguageReport

__all__ = ["CheckReport", "LanguageReport", "check"]
