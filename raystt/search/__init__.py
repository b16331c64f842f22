"""Search layer: one Optuna study a language, in one Ray Tune run over the pools."""
