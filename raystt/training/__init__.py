"""Training layer: model, batches, DeepSpeed engine and segments. No Ray here."""
