"""Tokenizers: item embeddings to codes, in several ways behind one interface, and codes that are unique an item."""
