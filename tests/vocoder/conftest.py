"""A little real speech, shared by the tests of this folder."""

from spoken import *  # noqa: F403
from spoken import _one_thread  # noqa: F401
