"""The corpus on disk: its card and its shards."""
