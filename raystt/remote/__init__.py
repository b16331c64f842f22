"""Directories on an object store (`s3://bucket/runs`): each node works in a copy of its own.

Files are appended to, locked, renamed and linked, which an object store does not have. So each node
has a copy under `$RAYSTT_CACHE` (~/.cache/raystt), whose path tells the URL, and everything else in
the package sees directories:

- What is written once (a corpus, a state) has a file that is written last, its marker. It is put
  into the store before it is seen on the node that made it, marker last; another node fetches it
  when the markers differ.
- What one process writes for long (a run, a corpus in the making) is mirrored while it is `held`:
  whatever has changed is put into the store every few seconds, and at the end.

For directories that are no copies every function does what it says on the disk alone, or nothing.
Credentials, region and endpoint are those of the environment of each node (`AWS_…`).
"""

from raystt.remote.copies import (
    delete,
    fetch,
    gather,
    get,
    names,
    publish,
    read,
    unwritable,
    update,
    write,
)
from raystt.remote.mirror import held, is_held, refresh
from raystt.remote.place import CACHE, NoStore, cache, is_url, local, named, url_of

__all__ = [
    "CACHE", "NoStore", "cache", "delete", "fetch", "gather", "get", "held", "is_held",
    "is_url", "local", "named", "names", "publish", "read", "refresh", "unwritable", "update",
    "url_of", "write",
]  # fmt: skip
