"""Check a config, and what it needs on this machine, without starting anything.

`check(config)` reads the config, the corpus card and the footers of the shards, or the tables of
the recordings that the corpus is to be made of. Neither Ray nor torch is imported, so that a
mistake is told in about a second and not after a cluster has come up. `check_run(config)` refuses
what has problems, for what is about to run it; `check_prepared` does so once more where the corpus
was only prepared then.
"""

from raystt.checking.look import check, check_prepared, check_run
from raystt.checking.report import LanguageReport, Report, ScheduleReport, error_dict

__all__ = [
    "LanguageReport",
    "Report",
    "ScheduleReport",
    "check",
    "check_prepared",
    "check_run",
    "error_dict",
]
