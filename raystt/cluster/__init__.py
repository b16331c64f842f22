"""Cluster layer: Ray start-up, trainer pool, evaluator pool, streaming of shards."""
