"""Searches over hyperparameters: Optuna studies that prune, resume to a total and are shared by processes."""
