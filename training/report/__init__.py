"""The report on a bundle: what its data set lets a model memorize, and how each model and ensemble makes use of it."""
