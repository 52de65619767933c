"""Text as a vector of fixed length: signed feature hashing of word n-grams."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

__all__ = ["hashed_text", "overlap", "words"]

_WORD = re.compile(r"\w+")


def words(text: str) -> list[str]:
    """The words of a text, in lower case; punctuation only separates."""
    return _WORD.findall(text.lower())


def hashed_text(text: str, dim: int, ngrams: int = 2) -> NDArray[np.float32]:
    """Signed feature hashing (arXiv 0902.2206) of the word n-grams of a text.

    Each n-gram adds +1 or -1 to one place; both are taken from BLAKE2b of the n-gram, so that the vector is the same in
    every process and on every machine. The inner product of two vectors estimates how many n-grams the texts share.

    Args:
        text: any text.
        dim: length of the vector.
        ngrams: the longest n-grams that count.

    Returns:
        (dim,), of Euclidean length 1, or all 0 for a text without words.
    """
    vector = np.zeros(dim, dtype=np.float32)
    tokens = words(text)
    grams = [" ".join(tokens[i : i + n]) for n in range(1, ngrams + 1) for i in range(len(tokens) - n + 1)]
    if grams:
        hashes = np.array([_hash(gram) for gram in grams], dtype=np.uint64)
        signs = np.where(hashes >> np.uint64(63), np.float32(1), np.float32(-1))
        np.add.at(vector, (hashes % np.uint64(dim)).astype(np.intp), signs)
        length = float(np.linalg.norm(vector))
        if length > 0:
            vector /= np.float32(length)
    return vector


def overlap(text: str, others: Iterable[str]) -> float:
    """Share of the distinct words of a text that are among the given words, in [0, 1]; 0 for a text without words."""
    own = set(words(text))
    return len(own & set(others)) / len(own) if own else 0.0


@lru_cache(maxsize=1 << 16)
def _hash(gram: str) -> int:
    return int.from_bytes(hashlib.blake2b(gram.encode("utf-8", "replace"), digest_size=8).digest(), "little")
