"""Pairs of questions whose meanings are close, by the cosine of sentence embeddings."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from polaris_data.errors import MissingExtraError, SettingError
from polaris_data.files.progress import track

MODEL = "sentence-transformers/all-MiniLM-L6-v2"
"""As DeepScaleR used it."""

MIN_COSINE = 0.90
"""As DeepScaleR used it; pairs above are duplicates."""

QUESTIONS_AT_ONCE = 256
ROWS_AT_ONCE = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Embedding:
    """Finds pairs of questions by their embeddings; `polaris_data.duplicates.dedup.SimilarPairs` is one."""

    model: str = MODEL
    """Name on the Hub, or the folder of a local copy."""

    min_cosine: float = MIN_COSINE
    """Pairs above are duplicates."""

    def __call__(self, questions: Sequence[str]) -> Iterator[tuple[int, int, float]]:
        """Yield the pairs by position, with their cosine."""
        return close_pairs(embed(questions, model=self.model), min_cosine=self.min_cosine)


def embed(questions: Sequence[str], *, model: str | Path = MODEL) -> NDArray[np.float32]:
    """Embed questions with a sentence-transformers model, on an accelerator if there is one.

    Args:
        questions: Texts; longer ones than the model reads are cut.
        model: Name on the Hub, or the folder of a local copy.

    Returns:
        [questions, dimensions] vectors of length 1.

    Raises:
        MissingExtraError: If sentence-transformers is not installed.
        SettingError: If the model cannot be loaded.
    """
    try:
        from sentence_transformers import SentenceTransformer  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError(
            "comparing embeddings needs sentence-transformers: pip install 'polaris-data[embeddings]>=2026.11' "
            f"({error})"
        ) from error
    try:
        encoder = SentenceTransformer(str(model))
    except (OSError, ValueError) as error:
        raise SettingError(
            f"cannot load the embedding model {str(model)!r} ({' '.join(str(error).split())[:200]}); without a "
            "connection, give the folder of a local copy with --embedding-model"
        ) from error
    pieces = range(0, len(questions), QUESTIONS_AT_ONCE)
    vectors = [
        encoder.encode(
            list(questions[start : start + QUESTIONS_AT_ONCE]), normalize_embeddings=True, show_progress_bar=False
        )
        for start in track(pieces, total=len(pieces), label="embedding questions")
    ]
    return np.concatenate(vectors).astype(np.float32)


def close_pairs(vectors: NDArray[np.float32], *, min_cosine: float = MIN_COSINE) -> Iterator[tuple[int, int, float]]:
    """Yield the pairs of vectors with a greater cosine than that, the smaller position first.

    Every pair is looked at, a block at a time: 100,000 vectors of 384 dimensions take minutes, a million hours.

    Args:
        vectors: [questions, dimensions] of length 1.
        min_cosine: Exclusive.
    """
    for start in track(range(0, len(vectors), ROWS_AT_ONCE), total=-(-len(vectors) // ROWS_AT_ONCE), label="comparing"):
        cosines = vectors[start : start + ROWS_AT_ONCE] @ vectors[start:].T
        for row, column in np.argwhere(cosines > min_cosine).tolist():
            if row < column:
                yield start + row, start + column, round(float(cosines[row, column]), 4)
