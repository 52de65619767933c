"""Record gold paths: `python -m stepagent_envs.scienceworld.record --out gold.jsonl --splits official_dev=2 eto_seen`.

The simulator searches a solution (0.5 to 23 s each), the environment plays it, and what it reached is appended to the
output. Interrupted, it goes on where it stopped. `--pack` compresses such files into the one that the package ships;
`--check` plays every path of a file again.
"""

from __future__ import annotations

import argparse
import json
import lzma
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from stepagent_envs.errors import InfrastructureError
from stepagent_envs.scienceworld import catalogue, simulator
from stepagent_envs.scienceworld.catalogue import GoldPath, dump_gold, parse_gold
from stepagent_envs.scienceworld.env import ScienceWorldEnv

__all__ = ["check", "main", "pack", "play_gold", "table", "wanted"]

LONGEST = 300
"""Actions of a gold path that are tried before it is given up."""


def wanted(counts: dict[str, int | None], tasks: Iterable[str] | None = None) -> Iterator[tuple[str, int]]:
    """(task, variation) pairs, round-robin over tasks and splits, so that a recording cut short is balanced.

    Args:
        counts: how many variations of each task of a split, spread evenly over it; None for all.
        tasks: restrict to these tasks.
    """
    ranked: dict[tuple[str, int], float] = {}
    for split, count in counts.items():
        for name in catalogue.task_types():
            listed = [pair for pair in catalogue.pairs(split) if pair[0] == name and (tasks is None or name in tasks)]
            here = len(listed) if count is None else min(count, len(listed))
            for i in range(here):
                pair = listed[i * len(listed) // here]
                ranked[pair] = min((i + 1) / (count or here), ranked.get(pair, 2.0))
    return iter(sorted(ranked, key=lambda pair: (ranked[pair], pair)))


def play_gold(sim: simulator.Simulator, env: ScienceWorldEnv, task: str, variation: int) -> GoldPath:
    """Search the gold path of a variation and play it to its end."""
    sim.load(task, variation, env.simplification, gold=True)
    return _play(env, task, variation, sim.gold_actions()[:LONGEST])


def _play(env: ScienceWorldEnv, task: str, variation: int, actions: Iterable[str]) -> GoldPath:
    env.reset(options={"task_id": f"scienceworld:{catalogue.VERSION}-{env.simplification}:{task}/{variation}"})
    played = []
    raw_score, completed = 0, False
    for action in actions:
        _, _, terminated, truncated, info = env.step(action)
        played.append(action)
        raw_score, completed = int(info["raw_score"]), info["success"]
        if terminated or truncated:
            break
    return GoldPath(task, variation, tuple(played), raw_score, completed)


def record(out: Path, pairs: Iterable[tuple[str, int]]) -> None:
    """Append the gold paths that `out` does not hold yet."""
    done = {(path.task, path.variation) for path in _read(out)}
    todo = [pair for pair in pairs if pair not in done]
    env = ScienceWorldEnv(max_steps=LONGEST, admissible=False)
    sim = simulator.Simulator(heap=1024)
    _drop_cut_line(out)
    with open(out, "a", encoding="utf-8", newline="\n") as file:
        for i, (task, variation) in enumerate(todo, start=1):
            try:
                path = play_gold(sim, env, task, variation)
            except InfrastructureError as error:
                sys.stderr.write(f"{task}/{variation}: {error}\n")
                sim.close()
                sim = simulator.Simulator(heap=1024)
                continue
            file.write(dump_gold(path) + "\n")
            file.flush()
            sys.stderr.write(f"{i}/{len(todo)} {task}/{variation}: {len(path.actions)} actions, {path.raw_score}\n")
    sim.close()
    env.close()


def _read(path: Path) -> list[GoldPath]:
    if not path.is_file():
        return []
    text = lzma.decompress(path.read_bytes()).decode() if path.suffix == ".xz" else path.read_text(encoding="utf-8")
    whole, _, _ = text.rpartition("\n")
    return [parse_gold(line) for line in whole.splitlines()]


def _drop_cut_line(path: Path) -> None:
    """Remove what an interrupted recording wrote of its last line."""
    if path.is_file():
        content = path.read_bytes()
        path.write_bytes(content[: content.rfind(b"\n") + 1])


def check(paths: Iterable[GoldPath]) -> tuple[int, int]:
    """Play gold paths again. Returns how many reach what they state, and how many there are."""
    env = ScienceWorldEnv(max_steps=LONGEST, admissible=False)
    total = good = 0
    for path in paths:
        total += 1
        found = _play(env, path.task, path.variation, path.actions)
        good += found == path
        if found != path:
            sys.stderr.write(f"{path.task}/{path.variation}: {found.raw_score}, not the stated {path.raw_score}\n")
    env.close()
    return good, total


def table(paths: Iterable[GoldPath]) -> str:
    """What there is, as Markdown: a row for each task; paths that do not complete their task with their score."""
    lines = [
        "| task | paths (train / dev / test) | actions: least, median, most | over 100 | not solved (score) |",
        "|---|---|---|---|---|",
    ]
    split_of = catalogue.official_split()
    groups: dict[str, list[GoldPath]] = {}
    for path in paths:
        groups.setdefault(path.task, []).append(path)
    for name, group in sorted(groups.items()):
        splits = [split_of[path.task, path.variation] for path in group]
        counts = " / ".join(str(splits.count(split)) for split in catalogue.OWN_SPLITS)
        lengths = sorted(len(path.actions) for path in group if path.completed)
        spread = f"{lengths[0]}, {lengths[len(lengths) // 2]}, {lengths[-1]}" if lengths else "–"
        longer = sum(length > catalogue.DEFAULT_LIMIT for length in lengths) or "–"
        unsolved = ", ".join(f"{path.variation} ({path.raw_score})" for path in group if not path.completed) or "–"
        lines.append(f"| {name} | {counts} | {spread} | {longer} | {unsolved} |")
    return "\n".join(lines) + "\n"


def pack(sources: Iterable[Path], target: Path) -> int:
    """Join recordings into one sorted, compressed file; a later source replaces an earlier one. Returns the number."""
    paths = {(path.task, path.variation): path for source in sources for path in _read(source)}
    text = "".join(dump_gold(paths[pair]) + "\n" for pair in sorted(paths))
    target.write_bytes(lzma.compress(text.encode("utf-8"), preset=9 | lzma.PRESET_EXTREME))
    return len(paths)


def main(arguments: list[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m stepagent_envs.scienceworld.record", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="JSONL to append to, or the file to pack or check")
    parser.add_argument(
        "--splits", nargs="*", default=[], help="what to record: a split, or SPLIT=N for N variations of each task"
    )
    parser.add_argument("--tasks", nargs="*", help="only these tasks")
    parser.add_argument("--pack", type=Path, nargs="*", help="recordings to join into --out (.jsonl.xz)")
    parser.add_argument("--check", action="store_true", help="play every path of --out again")
    parser.add_argument("--table", action="store_true", help="tell what --out holds, as a Markdown table")
    options = parser.parse_args(arguments)
    if options.table:
        sys.stdout.write(table(_read(options.out)))
        return 0
    if options.check:
        good, total = check(_read(options.out))
        sys.stderr.write(f"{good} of {total} paths reach their stated score\n")
        return int(good < total)
    if options.pack:
        sys.stderr.write(json.dumps({"paths": pack(options.pack, options.out)}) + "\n")
    else:
        named = (name.partition("=") for name in options.splits)
        record(options.out, wanted({split: int(n) if n else None for split, _, n in named}, options.tasks))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
