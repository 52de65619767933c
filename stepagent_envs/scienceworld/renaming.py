"""Traces with other names in them: `python -m stepagent_envs.scienceworld.renaming traces.jsonl renamed.jsonl`.

Many tasks are about a thing that the goal names ("boil tin"), and tasks of training and test name different ones. A
model that starts from nothing knows a name only from its traces. Where a name stands for any thing (a copy of the
trace that calls chocolate something else throughout is as good an example), copies with drawn names teach it to act
on the name that the goal gives. Types of task that are about what a name means (is it alive, how long does it live,
what do red and blue make) are left as they are. Every type gets equally many traces: some have a handful of
variations and some 120.

The copies are for learning only: no game has such names, so they do not replay, which their data hash `renamed` says.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

from stepagent_envs.errors import TraceError
from stepagent_envs.traces import Trace, read_traces, write_traces

__all__ = ["RENAMED", "Names", "main", "rebalance", "rename"]

T = TypeVar("T")
RENAMED = "renamed"
"""The data hash of a trace whose names are not its game's."""

_MEANING = re.compile(r"find-|lifespan-|chemistry-mix-paint-")  # types of task where the name's meaning is the task
_KEPT = frozenset(["water"])  # where it comes from (a tap) and what it becomes has to be known by its name
_ITEM = re.compile(
    r"(?:\n\t|containing |\bis: |, )(?:an? |the )?(?:substance called )?([a-z]+(?: [a-z]+)*)(?=[,.(\n)]|$)"
)
_RECIPE = re.compile(r"you need to mix ([^.\n]+)")
_WORD = re.compile(r"[\w.-]*\w")
_NOT_NAMES = frozenset(
    ["a", "in", "is", "it", "nothing", "of", "on", "the", "to", "which", "with", "you", "agent", "air"]
)
_COMMON = 0.02  # a word in the actions of more than this share of traces is a tool, a place or a verb


class Names:
    """What may be renamed in traces, and the words to make names of: both are read off the traces themselves.

    Args:
        traces: recorded traces, of all types of task that are to be renamed.
    """

    def __init__(self, traces: Sequence[Trace]) -> None:
        goals: dict[str, list[list[str]]] = defaultdict(list)
        used: Counter[str] = Counter()
        items: set[str] = set()
        self.places: set[str] = set()
        for trace in traces:
            goals[trace.task_type].append(_WORD.findall(trace.goal.lower()))
            if not _MEANING.match(trace.task_type):
                used.update({word for action in trace.actions for word in action.lower().split()})
            self.places.update(action[6:] for action in trace.actions if action.startswith("go to "))
            for observation in trace.observations:
                items.update(item for item in _ITEM.findall(observation) if not _NOT_NAMES & set(item.split()))
        self._fixed = {kind: set.intersection(*map(set, texts)) for kind, texts in goals.items()}
        tools = {word for word, count in used.items() if count > _COMMON * len(traces)}
        words = (
            {word for item in items for word in item.split()}
            - tools
            - {word for p in self.places for word in p.split()}
        )
        self.words = sorted(word for word in words if len(word) > 2)
        self._items = items
        self.items = sorted(item for item in items if item not in self.places and not tools & set(item.split()))

    def of(self, trace: Trace) -> list[str]:
        """The names in a trace that stand for any thing.

        These are what sets its goal apart from others of its type, and the ingredients of a recipe, as far as an action
        mentions them.
        """
        if _MEANING.match(trace.task_type):
            return []
        found = set(self._told(trace))
        for observation in trace.observations:
            for listed in _RECIPE.findall(observation):
                found.update(name.strip() for name in listed.lower().split(","))
        actions = "\n".join(trace.actions).lower()
        return sorted(
            name
            for name in found - self.places - _KEPT
            if len(name) > 2 and not re.search(r"\d|\bbox\b", name) and re.search(_whole(name), actions)
        )

    def _told(self, trace: Trace) -> Iterator[str]:
        """Yield the runs of words that not all goals of this type have.

        A run is as long as the thing's name is: "red light bulb", though all are about light bulbs. The boxes, which
        are in many goals, are left out.
        """
        fixed, goal = self._fixed[trace.task_type], trace.goal.lower()
        words = list(_WORD.finditer(goal))
        joined = [goal[word.end() : after.start()] == " " for word, after in pairwise(words)] + [False]
        i = 0
        while i < len(words):
            if words[i][0] in fixed:
                i += 1
                continue
            last = i
            while joined[last] and words[last + 1][0] not in fixed:
                last += 1
            longer = last
            while joined[longer]:
                longer += 1
                if goal[words[i].start() : words[longer].end()] in self._items:
                    last = longer
            if not goal[words[last].end() :].startswith(" box"):
                yield goal[words[i].start() : words[last].end()]
            i = last + 1

    def others(self, trace: Trace) -> list[str]:
        """Further things that are in sight in a trace and of no matter to it."""
        acted = "\n".join([trace.goal, *trace.actions]).lower()
        text = "\n".join(trace.observations).lower()
        return [item for item in self.items if item in text and item not in acted and item not in _KEPT]

    def draw(self, rng: random.Random, taken: set[str]) -> str:
        """A name of one or two words, none of them among those that are taken; these are added to them.

        Raises:
            TraceError: all are taken.
        """
        free = [word for word in self.words if word not in taken]
        if not free:
            raise TraceError("no word is left to make a name of: give more recorded traces")
        words = rng.sample(free, min(len(free), rng.choice((1, 1, 2))))
        taken.update(words)
        return " ".join(words)


def _whole(name: str) -> str:
    return rf"(?<![\w-]){re.escape(name)}(?![\w-])"


def _either(names: Iterable[str]) -> re.Pattern[str]:
    """Matches any of some names as whole words; of nested ones the longest."""
    ordered = sorted(names, key=lambda name: (-len(name), name))
    return re.compile("|".join(_whole(name) for name in ordered), re.IGNORECASE)


def rename(trace: Trace, names: dict[str, str]) -> Trace:
    """A copy of a trace with names replaced wherever they stand as whole words; of nested names the longest counts."""
    either = _either(names)

    def new(text: str | None) -> str | None:
        return text and either.sub(lambda match: names[match[0].lower()], text)

    steps = [
        step.model_copy(
            update={
                "observation": new(step.observation),
                "action": new(step.action),
                "expert_action": new(step.expert_action),
                "admissible_actions": None,
            }
        )
        for step in trace.steps
    ]
    update = {
        "goal": new(trace.goal),
        "steps": steps,
        "final_observation": new(trace.final_observation),
        "data_hash": RENAMED,
    }
    return trace.model_copy(update=update)


def rebalance(
    traces: Iterable[Trace], per_type: int, share: float = 0.5, moments: int = 0, seed: int = 0
) -> list[Trace]:
    """As many traces of each type of task, part of them with other names.

    Args:
        traces: recorded traces.
        per_type: how many of each type to make; what there is less of is repeated.
        share: how many of a type's traces are renamed, where it has names to change; for those that are there less
            often than `(1 - share) * per_type`, what is left over is renamed as well.
        moments: how many single steps to make besides, as traces of their own: a goal, what is seen, and an action that
            says a name of the goal's. What is to be copied is near in them.
        seed: of the draws.

    Returns:
        The traces, type by type, then the moments.
    """
    known = list(traces)
    names, rng = Names(known), random.Random(seed)
    kinds: dict[str, list[Trace]] = defaultdict(list)
    named: dict[str, list[tuple[Trace, list[str]]]] = defaultdict(list)
    for trace in known:
        kinds[trace.task_type].append(trace)
        if own := names.of(trace):
            named[trace.task_type].append((trace, own))
    made = []
    for kind, recorded in sorted(kinds.items()):
        kept = min(len(recorded), round((1 - share) * per_type)) if kind in named else per_type
        made += _draw(recorded, kept, rng)
        made += [_renamed(*chosen, names, rng) for chosen in _draw(named[kind], per_type - kept, rng)]
    said = [[moment for chosen in named[kind] for moment in _moments(*chosen)] for kind in sorted(named)]
    said = [found for found in said if found]
    for _ in range(moments if said else 0):
        made.append(_renamed(*rng.choice(rng.choice(said)), names, rng))
    return made


def _moments(trace: Trace, own: list[str]) -> Iterator[tuple[Trace, list[str]]]:
    """Yield the steps of a trace whose action says a name of its goal, each as a trace of its own, and the names."""
    any_name = _either(own)
    told = {name.lower() for name in any_name.findall(trace.goal)}
    for step in trace.steps:
        if told & {name.lower() for name in any_name.findall(step.action)}:
            yield trace.model_copy(update={"steps": [step], "final_observation": ""}), own


def _renamed(trace: Trace, own: Sequence[str], names: Names, rng: random.Random) -> Trace:
    """A trace with drawn names for all that can have any, and for half of what lies about.

    Without the latter, the one odd name in sight would be the thing to take.
    """
    text = "\n".join([trace.goal, *trace.actions, *trace.observations]).lower()
    taken = set(re.findall(r"[\w-]+", text))
    others = [item for item in names.others(trace) if rng.random() < 0.5]
    return rename(trace, {name: names.draw(rng, taken) for name in dict.fromkeys([*own, *others])})


def _draw(items: list[T], number: int, rng: random.Random) -> list[T]:
    """So many of some items: all of them in a drawn order, again and again."""
    order: list[T] = []
    while items and len(order) < number:
        order += rng.sample(items, len(items))
    return order[:number]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m stepagent_envs.scienceworld.renaming", description=__doc__)
    parser.add_argument("traces", type=Path, help="recorded traces (`stepagent traces build scienceworld …`)")
    parser.add_argument("out", type=Path, help="where the new ones go (.jsonl or .jsonl.xz)")
    parser.add_argument("--per-type", type=int, default=160, help="traces of each type of task")
    parser.add_argument("--share", type=float, default=0.5, help="of a type's traces that are renamed")
    parser.add_argument("--moments", type=int, default=0, help="single steps besides, in which a name is copied")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    made = rebalance(read_traces(options.traces), options.per_type, options.share, options.moments, options.seed)
    renamed = sum(trace.data_hash == RENAMED for trace in made)
    sys.stdout.write(f"{write_traces(options.out, made)} traces in {options.out}, {renamed} of them with other names\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
