"""A Gymnasium space that holds any unicode string."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import gymnasium as gym
import numpy as np

__all__ = ["TextSpace"]

_ALPHABET = "abcdefghijklmnopqrstuvwxyz0123456789 []{}()<>.,:;'\"!?/-_\n\té世界🙂"


class TextSpace(gym.Space[str]):
    """All unicode strings, of any length.

    `gymnasium.spaces.Text` lists the allowed characters one by one and rejects a blank by default. Language has no
    such list, so membership here is simply "is a `str`".

    Args:
        max_sample_length: upper bound of the length that `sample` draws; membership has no bound.
        seed: seed of the space's own generator.
    """

    def __init__(self, max_sample_length: int = 64, seed: int | np.random.Generator | None = None) -> None:
        if max_sample_length < 0:
            raise ValueError(f"max_sample_length must be >= 0, got {max_sample_length}")
        self.max_sample_length = max_sample_length
        super().__init__(dtype=str, seed=seed)

    @property
    def is_np_flattenable(self) -> bool:
        """Text has no fixed-size array form."""
        return False

    def sample(self, mask: Any | None = None, probability: Any | None = None) -> str:
        """Draw a random string (mask and probability have no meaning for text and must be None)."""
        if mask is not None or probability is not None:
            raise ValueError("TextSpace.sample takes neither a mask nor probabilities")
        length = int(self.np_random.integers(0, self.max_sample_length + 1))
        return "".join(_ALPHABET[i] for i in self.np_random.integers(0, len(_ALPHABET), size=length))

    def contains(self, x: Any) -> bool:
        """True for every `str`."""
        return isinstance(x, str)

    def to_jsonable(self, sample_n: Iterable[str]) -> list[str]:
        """Strings are JSON already."""
        return list(sample_n)

    def from_jsonable(self, sample_n: list[Any]) -> list[str]:
        """Inverse of `to_jsonable`."""
        return [str(s) for s in sample_n]

    def __repr__(self) -> str:
        return "TextSpace()"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TextSpace)

    def __hash__(self) -> int:
        return hash(TextSpace)
