"""Which words become text, and the tokens that come of it."""
