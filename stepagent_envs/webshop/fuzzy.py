"""The token-set ratio by which the original compares attributes and options.

Both texts become sets of ASCII words; what they share, and that with the rest of either, are compared pairwise with
difflib's ratio, and the best of the three counts. So a text whose words all occur in the other scores 100.
"""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from functools import lru_cache

__all__ = ["token_set_ratio"]

_NOT_WORD = re.compile(r"\W")


def _words(text: str) -> set[str]:
    """ASCII words of a text, in lower case (other characters vanish before the text is split)."""
    plain = text.encode("ascii", "ignore").decode("ascii")
    return set(_NOT_WORD.sub(" ", plain).lower().split())


def _ratio(a: str, b: str) -> int:
    if a == b:
        return 100
    if not a or not b:
        return 0
    return round(100 * SequenceMatcher(None, a, b).ratio())


@lru_cache(maxsize=1 << 16)
def token_set_ratio(a: str, b: str) -> int:
    """How alike two texts are as sets of words: 0 to 100; 0 when either has no words."""
    first, second = _words(a), _words(b)
    if not first or not second:
        return 0
    shared = " ".join(sorted(first & second))
    whole_first = f"{shared} {' '.join(sorted(first - second))}".strip()
    whole_second = f"{shared} {' '.join(sorted(second - first))}".strip()
    return max(_ratio(shared, whole_first), _ratio(shared, whole_second), _ratio(whole_first, whole_second))
