"""Goals that no product was made for, and their searches: `python -m stepagent_envs.webshop.new_goals OLD NEW`.

The shopper's first action says the goal's words again, as a search. A small model that has to learn to copy from a few
thousand goals copies some words well and drifts off in the midst of others, and an episode that begins with a wrong
search is mostly lost. What to search for follows from the text of a goal alone, so that there are as many examples as
one likes: goals put together from the parts of others, some of their words taken from anywhere on the pages.

The new traces have that one step and no outcome. They are for learning only: no game has such goals, so they do not
replay, which their data hash `new-goal` says.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from stepagent_envs.errors import TraceError
from stepagent_envs.traces import Trace, read_traces, write_traces
from stepagent_envs.webshop.wishes import read_clauses, suggested_queries

__all__ = ["NEW_GOAL", "Parts", "first_step", "main", "new_traces"]

NEW_GOAL = "new-goal"
"""The data hash of a trace whose goal is not its game's."""

_OPENING = "Find me "
_JOINTS = re.compile(r"(, | with | for )")
_OTHER, _ANY_WORDS = 0.7, 0.3  # shares: of a goal's parts that are another goal's; of options that are words of a page


class Parts:
    """What goals are made of: phrases by their place, options, price limits; and the words of pages.

    Args:
        traces: recorded traces, whose goals begin with "Find me"; others are left out.

    Raises:
        TraceError: there is none.
    """

    def __init__(self, traces: Iterable[Trace]) -> None:
        self.traces = [trace for trace in traces if trace.goal.startswith(_OPENING) and trace.steps]
        if not self.traces:
            raise TraceError(f"no trace has a goal that begins with {_OPENING!r}: give recorded traces of WebShop")
        phrases: dict[str, set[str]] = defaultdict(set)
        options: set[tuple[str, str]] = set()
        self.caps = [_cap(trace.goal) for trace in self.traces]
        self.pages = [observation for trace in self.traces for observation in trace.observations[1:]]
        for trace in self.traces:
            clauses = read_clauses(trace.goal)
            options.update(clauses.options)
            for kind, phrase in _phrases(clauses.base):
                if kind:
                    phrases[kind].add(phrase)
        self._phrases = {kind: sorted(found) for kind, found in phrases.items()}
        self._options = sorted(options)

    def draw(self, like: str, rng: random.Random) -> str:
        """A goal of the same build as another, of parts of all of them."""
        clauses = read_clauses(like)
        pieces = [
            rng.choice(self._phrases[kind]) if kind in self._phrases and rng.random() < _OTHER else phrase
            for kind, phrase in _phrases(clauses.base)
        ]
        options: dict[str, str] = {}
        for name, value in clauses.options:
            if rng.random() < _OTHER:
                name, value = rng.choice(self._options)
            options[name] = self._words(rng) or value if rng.random() < _ANY_WORDS else value
        listed = ", and ".join(f"{name}: {value}" for name, value in options.items())
        return f"{_OPENING}{''.join(pieces)}{' with ' + listed if listed else ''}{rng.choice(self.caps)}"

    def _words(self, rng: random.Random) -> str:
        """One to four consecutive words of some page, without what a goal would be read by."""
        words = re.sub(r"\[SEP\]|[,:\[\]]", " ", rng.choice(self.pages)).split()
        start = rng.randrange(len(words)) if words else 0
        found = words[start : start + rng.randint(1, 4)]
        return " ".join(word for word in found if word not in ("with", "for", "and")).lower()


def _cap(goal: str) -> str:
    """The clause about the price, with its comma; empty if there is none."""
    before, found, after = goal.rpartition(", and price lower than ")
    return found + after if before else ""


def _phrases(base: str) -> list[tuple[str, str]]:
    """The parts of a goal without options and price, each with its kind.

    Kinds are "head" (a property before the thing), "thing" (the last one before the first "with" or "for", often with a
    property in front), "tail" (a property after it) and "" (what stands between two of them).
    """
    pieces = _JOINTS.split(base)
    tail = next((i for i, piece in enumerate(pieces) if piece in (" with ", " for ")), len(pieces))
    return [
        ("" if i % 2 else "head" if i < tail - 1 else "thing" if i < tail else "tail", piece)
        for i, piece in enumerate(pieces)
    ]


def first_step(trace: Trace, goal: str) -> Trace:
    """A trace of one step on the same page with another goal: the search that this goal suggests.

    Raises:
        TraceError: the trace's first page does not show its goal.
    """
    step = trace.steps[0]
    if trace.goal not in step.observation:
        raise TraceError(f"{trace.task_id}: its first observation does not show its goal")
    action = f"search[{suggested_queries(goal)[0]}]"
    page = step.observation.replace(trace.goal, goal)
    searched = {"observation": page, "action": action, "expert_action": action, "admissible_actions": None}
    return trace.model_copy(
        update={
            "goal": goal,
            "steps": [step.model_copy(update=searched)],  # a search has no reward yet, in no game
            "final_observation": "",
            "data_hash": NEW_GOAL,
            "success": False,
            "score": 0.0,
            "raw_score": 0.0,
            "end_reason": None,
        }
    )


def new_traces(traces: Sequence[Trace], number: int, seed: int = 0) -> list[Trace]:
    """First steps of so many drawn goals."""
    parts, rng = Parts(traces), random.Random(seed)
    found: list[Trace] = []
    while len(found) < number:
        like = rng.choice(parts.traces)
        goal = parts.draw(like.goal, rng)
        if suggested_queries(goal):
            found.append(first_step(like, goal))
    return found


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m stepagent_envs.webshop.new_goals", description=__doc__)
    parser.add_argument("traces", type=Path, help="recorded traces (`stepagent traces build webshop …`)")
    parser.add_argument("out", type=Path, help="where they and the new ones go (.jsonl or .jsonl.xz)")
    parser.add_argument("--number", type=int, default=30_000, help="of new goals")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    traces = list(read_traces(options.traces))
    made = [*traces, *new_traces(traces, options.number, options.seed)]
    sys.stdout.write(f"{write_traces(options.out, made)} traces in {options.out}, {options.number} of new goals\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
