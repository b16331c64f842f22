"""The corpus on disk: its card, its shards, and the grammar behind the embedded one."""
