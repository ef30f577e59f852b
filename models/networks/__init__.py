"""PyTorch networks and their one-graph decoders; the only part of `models` that imports torch."""
