"""Experiments that can be run again: each is one command, `python -m training.recipes.NAME`."""
