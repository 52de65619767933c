"""Ranked search: Lucene's BM25 on memory-mapped postings.

The ranking is that of the original's search engine (Lucene through pyserini, k1 0.9, b 0.4): document lengths are
rounded to one byte as Lucene stores them, term scores are computed in single precision and summed in double, and ties
fall to the order of the products' ids (asins). bm25s, the well-kept library of this kind, offers neither the rounding
nor the tie order.

Postings are stored by term (CSC): document numbers, and a 16-bit code of frequency and length for each. Terms are
added in the order of how much they can contribute; once the k-th best score so far is out of reach for documents not
yet seen, the remaining (frequent) terms are looked up for the candidates only. The result is the exact top k.
"""

from __future__ import annotations

import array
from collections import Counter
from collections.abc import Iterable, Sequence
from math import log
from pathlib import Path

import numpy as np
import numpy.typing as npt

from stepagent_envs.webshop.analysis import analyse
from stepagent_envs.webshop.mapping import mapped, mapped_bytes

__all__ = ["SearchIndex", "build_index", "document_text", "round_length"]

K1 = 0.9
B = 0.4
RETURNED = 50
"""Results of a search at most."""

_PRUNE_ABOVE = 50_000
"""Postings of a query below which nothing is pruned (it would cost more than it saves)."""

_SLACK = 1 - 1e-6
"""Bounds are compared with this much room for rounding."""

_FILES = ("terms.bin", "term_ends.npy", "ptr.npy", "docs.npy", "codes.npy", "factors.npy", "best.npy", "ties.npy")


def document_text(
    title: str, description: str, bullets: list[str] | tuple[str, ...], options: dict[str, tuple[str, ...]]
) -> str:
    """What is indexed of a product: title, description, first bullet point and all options, in lower case."""
    listed = ", and ".join(f"{name}: {', '.join(values)}" for name, values in options.items())
    return " ".join((title, description, bullets[0] if bullets else "", listed)).lower()


def round_length(length: int) -> int:
    """The byte in which Lucene stores a document length (exact below 40, then 4 significant bits)."""
    if length < 24:
        return length
    rest = length - 24
    bits = rest.bit_length()
    if bits < 4:
        return 24 + rest
    shift = bits - 4
    return 24 + (((rest >> shift) & 7) | ((shift + 1) << 3))


def _length_of(byte: int) -> int:
    """Inverse of `round_length`: the length that a byte stands for."""
    if byte < 24:
        return byte
    bits, shift = (byte - 24) & 7, ((byte - 24) >> 3) - 1
    return 24 + (bits if shift < 0 else (bits | 8) << shift)


def build_index(texts: Iterable[str], names: Sequence[str], folder: Path) -> None:
    """Index texts and write the index files into a folder.

    Args:
        texts: the documents; their numbers are their positions.
        names: their ids, whose order decides between equal scores.
        folder: where the files go.
    """
    numbers: dict[str, int] = {}
    terms = array.array("i")
    docs = array.array("i")
    codes = array.array("H")
    lengths = array.array("i")
    for doc, text in enumerate(texts):
        found = analyse(text)
        length = len(found)
        byte = round_length(length)
        lengths.append(length)
        for term, count in Counter(found).items():
            terms.append(numbers.setdefault(term, len(numbers)))
            docs.append(doc)
            codes.append(min(count, 255) << 8 | byte)
    encoded, rank = _vocabulary(numbers)
    owner = rank[np.frombuffer(terms, np.int32)] if terms else np.empty(0, np.int32)
    order = np.argsort(owner, kind="stable")
    counts = np.bincount(owner, minlength=len(encoded))
    ptr = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    (folder / "terms.bin").write_bytes(b"".join(encoded))
    np.save(folder / "term_ends.npy", np.cumsum([0] + [len(name) for name in encoded]).astype(np.int64))
    np.save(folder / "ptr.npy", ptr)
    sorted_codes = np.frombuffer(codes, np.uint16)[order] if codes else np.empty(0, np.uint16)
    np.save(folder / "docs.npy", np.frombuffer(docs, np.int32)[order] if docs else np.empty(0, np.int32))
    np.save(folder / "codes.npy", sorted_codes)
    factors = _factors(np.frombuffer(lengths, np.int32) if lengths else np.empty(0, np.int32))
    np.save(folder / "factors.npy", factors)
    best = np.maximum.reduceat(factors[sorted_codes], ptr[:-1]) if encoded else np.empty(0, np.float32)
    np.save(folder / "best.npy", best.astype(np.float32))
    ties = np.empty(len(lengths), np.int32)
    ties[sorted(range(len(names)), key=names.__getitem__)] = np.arange(len(names), dtype=np.int32)
    np.save(folder / "ties.npy", ties)


def _vocabulary(numbers: dict[str, int]) -> tuple[list[bytes], npt.NDArray[np.int32]]:
    """The terms in byte order, and the place of each number in that order."""
    ordered = sorted((term.encode(), number) for term, number in numbers.items())
    rank = np.empty(len(ordered), np.int32)
    rank[[number for _, number in ordered]] = np.arange(len(ordered), dtype=np.int32)
    return [term for term, _ in ordered], rank


def _factors(lengths: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    """For every code (frequency, length byte): 1 + frequency / norm, in single precision as Lucene computes it."""
    average = np.float32(lengths[lengths > 0].mean(dtype=np.float64)) if (lengths > 0).any() else np.float32(1)
    one, k1, b = np.float32(1), np.float32(K1), np.float32(B)
    length = np.array([_length_of(byte) for byte in range(256)], np.float32)
    inverse = one / (k1 * ((one - b) + b * length / average))
    frequency = np.arange(256, dtype=np.float32)
    result: npt.NDArray[np.float32] = (one + frequency[:, None] * inverse[None, :]).reshape(-1).astype(np.float32)
    return result


class SearchIndex:
    """The index in a folder, memory-mapped: processes that search it share its pages.

    Args:
        folder: what `build_index` wrote.
    """

    def __init__(self, folder: Path) -> None:
        self._terms = mapped_bytes(folder / "terms.bin")
        self._ends, self._ptr, self._docs, self._codes, factors, self._best, self._ties = (
            mapped(folder / name) for name in _FILES[1:]
        )
        self._factors = np.array(factors)
        self.documents = len(self._ties)
        self._sums: npt.NDArray[np.float64] | None = None

    def _find(self, term: str) -> int | None:
        """Number of a term, by bisection in the sorted vocabulary."""
        wanted = term.encode()
        low, high = 0, len(self._ends) - 1
        while low < high:
            middle = (low + high) // 2
            found = self._terms[self._ends[middle] : self._ends[middle + 1]]
            if found < wanted:
                low = middle + 1
            elif found > wanted:
                high = middle
            else:
                return middle
        return None

    def _query(self, query: str) -> list[tuple[float, np.float32, int, int]]:
        """Terms of a query that occur, as (upper bound, weight, start, end), the most telling first."""
        terms = []
        for term, count in Counter(analyse(query)).items():
            number = self._find(term)
            if number is None:
                continue
            start, end = int(self._ptr[number]), int(self._ptr[number + 1])
            frequency = end - start
            idf = np.float32(log(1 + (self.documents - frequency + 0.5) / (frequency + 0.5)))
            weight = np.float32(count) * idf
            terms.append((float(weight - weight / self._best[number]), weight, start, end))
        return sorted(terms, key=lambda term: (-term[0], term[2]))

    def search(self, query: str, k: int = RETURNED) -> list[tuple[int, float]]:
        """The best k documents with their scores, best first; equal scores by id."""
        terms = self._query(query)
        if not terms:
            return []
        if sum(end - start for _, _, start, end in terms) <= _PRUNE_ABOVE:
            found, sums = self._all(terms)
        else:
            found, sums = self._pruned(terms, k)
        scores = sums.astype(np.float32)
        if len(found) > 4 * k:
            keep = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
            found, scores = found[keep], scores[keep]
        order = np.lexsort((self._ties[found], -scores))[:k]
        return [(int(found[i]), float(scores[i])) for i in order]

    def _add(
        self, sums: npt.NDArray[np.float64], weight: np.float32, start: int, end: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """Add a term's scores to all its documents; returns the documents and what they had before."""
        docs = self._docs[start:end]
        before = sums[docs]
        sums[docs] = before + (weight - weight / self._factors[self._codes[start:end]])
        return docs, before

    def _scratch(self) -> npt.NDArray[np.float64]:
        """A zeroed array over documents that is used again and again."""
        if self._sums is None:
            self._sums = np.zeros(self.documents, np.float64)
        return self._sums

    def _all(
        self, terms: list[tuple[float, np.float32, int, int]]
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        sums = self._scratch()
        touched = []
        for _, weight, start, end in terms:
            docs, before = self._add(sums, weight, start, end)
            touched.append(docs[before == 0])
        found = np.concatenate(touched)
        values = sums[found]
        sums[found] = 0
        return found, values

    def _pruned(
        self, terms: list[tuple[float, np.float32, int, int]], k: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
        """Candidates for the best k, the best k among them, with their sums (MaxScore; Turtle and Flood 1995)."""
        sums = self._scratch()
        rest = [*np.cumsum([bound for bound, *_ in terms][::-1])[::-1].tolist(), 0.0]
        touched: list[npt.NDArray[np.int32]] = []
        threshold = 0.0
        done = 0
        while done < len(terms) and (done < 2 or rest[done] >= threshold):
            _, weight, start, end = terms[done]
            docs, before = self._add(sums, weight, start, end)
            touched.append(docs[before == 0])
            done += 1
            if 1 < done < len(terms):
                threshold = max(threshold, self._promise(np.concatenate(touched), sums, terms[done:], k))
        everything = np.concatenate(touched)
        found = everything[sums[everything] >= (threshold - rest[done]) * _SLACK]
        found.sort()  # looking up is several times faster in order
        values = sums[found]
        sums[everything] = 0
        for i in range(done, len(terms)):
            self._look_up(found, values, terms[i])
            if len(values) > k and i + 1 < len(terms):
                threshold = max(threshold, float(np.partition(values, -k)[-k]))
                keep = values >= (threshold - rest[i + 1]) * _SLACK
                found, values = found[keep], values[keep]
        return found, values

    def _promise(
        self,
        docs: npt.NDArray[np.int32],
        sums: npt.NDArray[np.float64],
        left: list[tuple[float, np.float32, int, int]],
        k: int,
    ) -> float:
        """A lower bound of the k-th best score: that of the documents which lead so far, with all terms counted."""
        if len(docs) < k:
            return 0.0
        if len(docs) > 4 * k:
            docs = np.sort(docs[np.argpartition(sums[docs], -4 * k)[-4 * k :]])
        partial = sums[docs]
        for term in left:
            self._look_up(docs, partial, term)
        return float(np.partition(partial, -k)[-k])

    def _look_up(
        self,
        found: npt.NDArray[np.int32],
        values: npt.NDArray[np.float64],
        term: tuple[float, np.float32, int, int],
    ) -> None:
        """Add a term's scores to the values of some documents."""
        _, weight, start, end = term
        docs = self._docs[start:end]
        place = np.minimum(np.searchsorted(docs, found), end - start - 1)
        hit = np.flatnonzero(docs[place] == found)
        values[hit] += weight - weight / self._factors[self._codes[start:end][place[hit]]]
