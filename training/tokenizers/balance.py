"""k-means whose clusters hold equally many items.

Giving each item to a code so that all codes get as many, at the least total squared distance, is a problem of optimal
transport. Its dual gives every code a price, and each item then takes the code of least distance plus price (a power
diagram; Aurenhammer, Hoffmann and Aronov, Algorithmica 20, 1998). Prices are properties of the codes, so new items get
theirs by the same rule. They are found by Sinkhorn's iteration (Cuturi, arXiv 1306.0895): a code that too many items
want becomes dearer.

Memory: one float32 for each item and code.
"""

import numpy as np
from numpy.typing import NDArray

from training.tokenizers.interface import Vectors
from training.tokenizers.kmeans import squared_distances

COARSE, FINE = 0.2, 0.02  # temperatures, in mean squared distances from the nearest centroid
ROUNDS = 20  # of Lloyd's algorithm, each with a few steps of the prices
FINAL = 100  # steps of the prices once the centroids stand


def balance(vectors: Vectors, centroids: Vectors) -> tuple[Vectors, Vectors]:
    """Centroids [V, d] and prices [V] that split vectors [N, d] evenly, from the centroids of plain k-means."""
    prices = np.zeros(len(centroids), dtype=np.float32)
    for _ in range(ROUNDS):
        distances = squared_distances(vectors, centroids)
        prices = settle(distances, prices, COARSE, steps=5)
        centroids = _means(vectors, (distances + prices).argmin(1), centroids)
    distances = squared_distances(vectors, centroids)
    for temperature in np.geomspace(COARSE, FINE, 4).tolist():
        prices = settle(distances, prices, temperature, steps=FINAL // 4)
    return centroids, prices - prices.min()


def settle(distances: Vectors, prices: Vectors, temperature: float, steps: int) -> Vectors:
    """Prices [V] at which the codes' shares of items are more equal, for squared distances [N, V].

    An item wants a code in proportion to exp(-(distance + price) / temperature).
    """
    scale = temperature * float(distances.min(1).mean()) or 1.0
    for _ in range(steps):
        logits = -(distances + prices) / scale
        wanted = np.exp(logits - logits.max(1, keepdims=True))
        shares = (wanted / wanted.sum(1, keepdims=True)).mean(0)
        prices = prices + scale * np.log(np.maximum(shares * len(prices), 1e-6))
    return prices


def _means(vectors: Vectors, codes: NDArray[np.int64], centroids: Vectors) -> Vectors:
    """The mean of each code's vectors; a code without any keeps its centroid."""
    sums = np.zeros_like(centroids)
    np.add.at(sums, codes, vectors)
    counts = np.bincount(codes, minlength=len(centroids))[:, None]
    return np.where(counts > 0, sums / np.maximum(counts, 1), centroids).astype(np.float32)
