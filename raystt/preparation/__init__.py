"""The stages of `raystt.prepare`: sentences, speech, shards, and the models fitted to them."""
