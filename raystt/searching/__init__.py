"""One Optuna study a language, in one Ray Tune run over the pools."""
