"""The stages of a preparation: sentences, speech, shards, and the models fitted to them."""
