"""k-means by faiss, and the nearest centroid."""

import faiss
import numpy as np
from numpy.typing import NDArray

from training.tokenizers.interface import Vectors


def kmeans(vectors: Vectors, size: int, *, restarts: int, iterations: int, seed: int) -> Vectors:
    """Centroids [size, d] of vectors [N, d]: the best of several restarts.

    Restarts matter more than the library: a bad initialisation is what makes semantic ids collide.
    """
    clustering = faiss.Kmeans(
        vectors.shape[1],
        size,
        niter=iterations,
        nredo=restarts,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(vectors),
    )
    clustering.train(np.ascontiguousarray(vectors))
    return np.array(clustering.centroids, dtype=np.float32)


def nearest(vectors: Vectors, codebook: Vectors) -> NDArray[np.int64]:
    """For each of vectors [N, d], the nearest of codebook [V, d]."""
    index = faiss.IndexFlatL2(codebook.shape[1])
    index.add(np.ascontiguousarray(codebook))
    return np.asarray(index.search(np.ascontiguousarray(vectors), 1)[1][:, 0], dtype=np.int64)


def squared_distances(vectors: Vectors, codebook: Vectors) -> Vectors:
    """Squared distances [N, V] of vectors [N, d] from codebook [V, d]."""
    return np.asarray(faiss.pairwise_distances(np.ascontiguousarray(vectors), np.ascontiguousarray(codebook)))
