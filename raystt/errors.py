"""What the user can mend: the base class of all errors that mean bad input."""

from __future__ import annotations


class BadInput(Exception):
    """A config, a file, an installation or a cluster that cannot be used; the text says why.

    The command line prints it without a traceback and exits with 2.
    """


class PrepareError(BadInput):
    """A corpus cannot be prepared as asked; the text names what is wrong and the fix."""
