"""Published results: kept in `leaderboard/results`, and the figures of docs/results.md made from them.

    python -m leaderboard.evidence publish results-quick   # runs and trainings of an experiment -> leaderboard/results
    python -m leaderboard.evidence studies                 # records of leaderboard.ablations -> leaderboard/results
    python -m leaderboard.evidence rejudge results-quick   # plays the kept checkpoints again and compares
    python -m leaderboard.evidence figures                 # fills in the figures of docs/results.md
    python -m leaderboard.evidence figures --check         # fails where a figure is not what the results give

In docs/results.md a figure stands between `<!-- NAME ARGUMENTS -->` and `<!-- end -->`; what is between them is made by
the function of that name below. Everything else on the page is prose.
"""

from __future__ import annotations

import json
import re
import shutil
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np
import tyro
from rich.console import Console

from leaderboard import causes, stats
from leaderboard.ablations import RECORDS, merge
from leaderboard.agents import AgentSpec
from leaderboard.benchmark import load_benchmark, restrict
from leaderboard.board import Entry, Table, build_board, find_results, read_entry
from leaderboard.curves import METRICS, read_curve
from leaderboard.errors import StoreError
from leaderboard.experiments import START, experiment
from leaderboard.runner import RunOptions, run_benchmark
from leaderboard.schema import EpisodeRecord
from leaderboard.store import PACKED, episodes_path, pack, read_episodes, read_result
from leaderboard.tables import detail_cells, label, number
from leaderboard.training import MADE
from stepagent_envs.errors import did_you_mean
from stepagent_envs.intervals import score_interval

__all__ = ["FIGURES", "RESULTS", "fill", "main", "publish", "publish_studies", "rejudge", "training_record"]

RESULTS = Path(__file__).resolve().parent / "results"
"""One folder for each benchmark, in it one for each row, and `trainings.jsonl`."""
PAGE = RESULTS.parent.parent / "docs" / "results.md"
TRAININGS, TRIALS, CHECKPOINTS = "trainings.jsonl", "trials.jsonl", "checkpoints"
AGAINST = ("eto", "ppo", "rft", "sft")
"""Rows that the StepAgent rows are tested against."""
_BLOCK = re.compile(r"(<!-- (?P<call>(?!end)[^>]+?) -->\n)(?P<body>.*?)(<!-- end -->)", re.DOTALL)


# --- publishing ----------------------------------------------------------------------------------------------------


def publish(name: str, out: Path, to: Path = RESULTS, rows: Sequence[str] = (), keep: Sequence[str] = ()) -> list[Path]:
    """Copy an experiment's rows and what its trainings noted; episodes are packed.

    Args:
        name: of the experiment.
        out: the folder it ran in.
        to: where to.
        rows: only these; () for all.
        keep: worlds of which the learners' checkpoints of the first run seed are kept too. Those that they start from
            are always kept, all of them: copied back to `OUT/NAME`, they let the experiment go on elsewhere.

    Returns:
        The folders of the rows.

    Raises:
        StoreError: a row is not there or not complete.
    """
    for known in (_entries, _table, _by_seed):
        known.cache_clear()
    plan = experiment(name)
    names = list(rows) or [*plan.agents, *(learner.row for learner in plan.learners), *plan.borrowed]
    target = to / plan.benchmark
    done = []
    sources = {row: out / "leaderboard" / plan.benchmark / row for row in names}
    for source in sources.values():  # all of them, before anything is replaced
        if not read_result(source).complete:
            raise StoreError(f"{source}: not complete; run the experiment again, it resumes")
    for row, source in sources.items():
        folder = target / row
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for file in ("run.json", "result.json", episodes_path(source).name):
            shutil.copyfile(source / file, folder / file)
        if episodes_path(folder).name != PACKED:
            pack(folder)
        done.append(folder)
    records = [
        training_record(path.parent, learner.row, seed, world.name)
        for learner in plan.learners
        if learner.row in names
        for seed, world in _checkpoints(out / plan.name / learner.row)
        if (path := world / "training" / METRICS).is_file()
    ]
    first = load_benchmark(plan.benchmark).seeds[0] if keep else None
    for learner in plan.learners:
        for seed, world in _checkpoints(out / plan.name / learner.row) if learner.row in names else ():
            if learner.row == START or (world.name in keep and seed == first):
                place = target / CHECKPOINTS / learner.row / str(seed) / world.name
                shutil.rmtree(place, ignore_errors=True)
                shutil.copytree(world, place)
    kept = [record for record in _read(target / TRAININGS) if record["row"] not in names]
    _write(target / TRAININGS, [*kept, *records])
    return done


def publish_studies(path: Path, to: Path = RESULTS) -> list[Path]:
    """Add the records of studies (`leaderboard.ablations`) to those that are kept with their experiment's results.

    Returns:
        The files that were written.

    Raises:
        StoreError: there is no such file.
    """
    records: dict[Path, list[dict[str, Any]]] = {}
    for record in _read(path):
        place = to / experiment(record["experiment"]).benchmark / RECORDS
        records.setdefault(place, []).append(record)
    if not records:
        raise StoreError(f"{path}: no records; `python -m leaderboard.ablations STUDY` makes them")
    for place, new in records.items():
        merge(place, new)
    return list(records)


def rejudge(name: str, folder: Path, to: Path = RESULTS) -> Iterable[tuple[str, int, int]]:
    """Judge the kept checkpoints again, on the episodes of their world and run seed.

    Args:
        name: of the experiment.
        folder: for the new episodes.
        to: where the results are.

    Yields:
        Row, world and run seed, the number of episodes, and in how many of them every action is the published one.
    """
    plan = experiment(name)
    target = to / plan.benchmark
    for path in sorted((target / CHECKPOINTS).glob("*/*/*")):
        row, seed, world = path.parts[-3:]
        whole = load_benchmark(plan.benchmark)
        sections = [section.world for section in whole.worlds if section.world.partition("-")[0] == world]
        benchmark = restrict(whole, sections).model_copy(update={"seeds": [int(seed)]})
        out = folder / row / seed / world
        run_benchmark(benchmark, AgentSpec(path.as_posix(), {"threads": 1}), out, RunOptions(name=row))
        again = {record.key: record for record in read_episodes(episodes_path(out))}
        before = {record.key: record for record in read_episodes(episodes_path(target / row))}
        same = sum(_same(record, before[key]) for key, record in again.items())
        yield f"{row} {world}, seed {seed}", len(again), same


def _same(a: EpisodeRecord, b: EpisodeRecord) -> bool:
    return a.trace is not None and b.trace is not None and a.trace.actions == b.trace.actions and a.score == b.score


def _checkpoints(folder: Path) -> Iterable[tuple[int, Path]]:
    for seed in sorted(folder.iterdir(), key=lambda path: path.name):
        for world in sorted(seed.iterdir()):
            yield int(seed.name), world


def training_record(folder: Path, row: str, seed: int, world: str) -> dict[str, Any]:
    """What a training cost and what it noted of itself, from its `metrics.jsonl`: the submitter's word."""
    metrics = _read(folder / METRICS)
    rounds = [record for record in metrics if record.get("kind") in ("round", "train")]
    last = rounds[-1] if rounds else {}
    traced = sum(record["steps"] for record in metrics if record.get("kind") == "data")
    questions = traced + last["questions"] if "questions" in last else traced or None  # a trace's steps are answers
    clocks = ((name, last.get(f"{name}_seconds")) for name in ("play", "eval"))
    return {
        "row": row,
        "seed": seed,
        "world": world,
        "updates": last.get("step"),
        "tokens": last.get("tokens"),
        "env_steps": last.get("env_steps", last.get("step")),  # sb3 counts its choices as steps
        "questions": questions,
        "minutes": round(last.get("train_seconds", last.get("seconds", 0.0)) / 60, 3),
        **{f"{name}_minutes": round(seconds / 60, 3) for name, seconds in clocks if seconds is not None},
        "agreement": [round(r["agreement"], 4) for r in rounds if "agreement" in r],
        "commit": _read(folder / MADE)[0]["commit"] if (folder / MADE).is_file() else None,
        "alarms": sorted({record["rule"] for record in metrics if record.get("kind") == "alarm"}),
    }


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


def _write(path: Path, records: Iterable[dict[str, Any]]) -> None:
    text = "".join(json.dumps(record, sort_keys=True) + "\n" for record in records)
    path.write_text(text, encoding="utf-8", newline="\n")


# --- figures -------------------------------------------------------------------------------------------------------


def fill(text: str, results: Path = RESULTS) -> str:
    """A page with its figures made anew.

    Raises:
        StoreError: a figure has no function, or its results are not there.
    """

    def made(match: re.Match[str]) -> str:
        name, *arguments = match["call"].split()
        if name not in FIGURES:
            raise StoreError(f"no figure {name!r}; {did_you_mean(name, FIGURES)}")
        return f"{match[1]}{FIGURES[name](results, *arguments)}\n{match[4]}"

    return _BLOCK.sub(made, text)


@cache
def _entries(results: Path, benchmark: str) -> list[Entry]:
    return [read_entry(folder) for folder in find_results([results / benchmark])]


@cache
def _table(results: Path, benchmark: str) -> Table:
    return build_board(_entries(results, benchmark)).tables[0]


@cache
def _by_seed(results: Path, benchmark: str, row: str) -> dict[str, dict[str, Any]]:
    """World -> "success" and "score", shape (run seeds, tasks) each, in one order for all rows; means over repeats."""
    found: dict[str, dict[int, dict[str, list[tuple[float, float]]]]] = {}
    (entry,) = (entry for entry in _entries(results, benchmark) if entry.result.agent.name == row)
    for record in entry.records or ():
        tasks = found.setdefault(record.world, {}).setdefault(record.run_seed, {})
        tasks.setdefault(record.task_id, []).append((float(record.success or 0), float(record.score or 0)))
    reached = {}
    for world, seeds in found.items():
        means = np.array(
            [[np.mean(tasks[task], axis=0) for task in sorted(tasks)] for _, tasks in sorted(seeds.items())]
        )
        reached[world] = {"success": means[..., 0], "score": means[..., 1]}
    return reached


def _grid(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(header) + " |", "|" + "|".join(["---"] * len(header)) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def rows(results: Path, benchmark: str, world: str) -> str:
    """A world's rows, best score first: rank, success (also by seed), score, steps, and what the trainings cost."""
    table = _table(results, benchmark)
    costs = _costs(results, benchmark, world)
    cells = []
    for row in sorted(table.rows, key=lambda row: -(e.value if (e := row.cells[world].score) else -1.0)):
        rank, _, success, score, steps, *_ = detail_cells(row, world)
        name = row.result.agent.name
        seeds = [f"{100 * value:.0f}" for value in _by_seed(results, benchmark, name)[world]["success"].mean(axis=1)]
        by_seed = ", ".join(seeds) if name in costs else ""
        cells.append([rank, label(row), success, by_seed, score, steps, *costs.get(name, [""] * 5)])
    costly = ["env steps", "asked", "tokens", "updates", "minutes"]
    return _grid(["rank", "row", "success", "by seed", "score", "steps", *costly], cells)


def _mean(records: Iterable[dict[str, Any]], name: str) -> float | None:
    """Mean of a field over the records that have it."""
    values = [record[name] for record in records if record.get(name) is not None]
    return statistics.fmean(values) if values else None


def _costs(results: Path, benchmark: str, world: str) -> dict[str, list[str]]:
    """Row -> env steps, questions, tokens (thousands), updates and minutes of its own training; means over seeds."""
    return {
        row: [
            number(_mean(records, "env_steps"), 0),
            number(_mean(records, "questions"), 0),
            "–" if (tokens := _mean(records, "tokens")) is None else f"{tokens / 1e3:,.0f}k",
            number(_mean(records, "updates"), 0),
            number(_mean(records, "minutes")),
        ]
        for row, records in _trainings(results, benchmark, world).items()
    }


def _trainings(results: Path, benchmark: str, world: str) -> dict[str, list[dict[str, Any]]]:
    """Row -> the records of its trainings on a world."""
    found: dict[str, list[dict[str, Any]]] = {}
    for record in _read(results / benchmark / TRAININGS):
        if record["world"] == world.partition("-")[0]:
            found.setdefault(record["row"], []).append(record)
    return found


def time(results: Path, benchmark: str, world: str) -> str:
    """Where a training's minutes go: playing, learning, and (apart from these) evaluating; means over the seeds."""
    cells = []
    for row, records in _trainings(results, benchmark, world).items():
        playing, minutes, evaluating = (_mean(records, f"{name}minutes") for name in ("play_", "", "eval_"))
        if playing is None or not minutes:
            continue  # by a version that had no clock for it, or no language model
        tokens = _mean(records, "tokens")
        rate = "–" if tokens is None or minutes == playing else f"{tokens / 60 / (minutes - playing):,.0f}"
        steps = "–" if not playing else f"{(_mean(records, 'env_steps') or 0) / 60 / playing:,.0f}"
        parts = [f"{playing:.2f} ({100 * playing / minutes:.0f} %)", f"{minutes - playing:.2f}", number(evaluating, 2)]
        cells.append([row, *parts, steps, rate])
    header = ["row", "playing, min", "learning, min", "evaluating, min", "env steps/s playing", "tokens/s learning"]
    return _grid(header, cells)


def tests(results: Path, benchmark: str, world: str) -> str:
    """Each StepAgent row against ETO, PPO, RFT and SFT on the same tasks; Holm's correction over this table.

    The p-value is about these checkpoints on other tasks, the interval about other trainings too (seeds and tasks are
    both drawn anew); a verdict needs both.
    """
    table = _table(results, benchmark)
    named = {row.result.agent.name: row for row in table.rows}
    pairs = [
        (ours, named[other])
        for name, ours in sorted(named.items())
        if name.startswith("stepagent")
        for other in AGAINST
        if other in named
    ]
    tested = {(pair.a, pair.b): pair for pair in table.pairs if pair.world == world}
    found = [tested.get((ours.key, other.key)) or tested[other.key, ours.key].turned() for ours, other in pairs]
    adjusted = stats.holm([test.p for test in found])
    cells = []
    for (ours, other), test, p in zip(pairs, found, adjusted, strict=True):
        left, right = (_by_seed(results, benchmark, r.result.agent.name)[world]["score"] for r in (ours, other))
        low, high = stats.crossed_bootstrap(left - right)
        sure = p <= 0.05 and (low > 0 or high < 0)
        cells.append(
            [
                label(ours),
                label(other),
                f"{100 * test.difference:+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]",
                ", ".join(f"{100 * value:+.0f}" for value in (left - right).mean(axis=1)),
                f"{test.wins} / {test.ties} / {test.losses}",
                f"{p:.2g}",
                "–" if not sure else "better" if test.difference > 0 else "worse",
            ]
        )
    return _grid(["row", "against", "score × 100", "by seed", "tasks won / tied / lost", "p (Holm)", ""], cells)


def agreement(results: Path, benchmark: str) -> str:
    """How often novice and expert agree, in the first and in the last cycle of each StepAgent training."""
    found: dict[tuple[str, str], list[list[float]]] = {}
    for record in _read(results / benchmark / TRAININGS):
        if record["agreement"]:
            found.setdefault((record["world"], record["row"]), []).append(record["agreement"])
    cells = [
        [
            world,
            row,
            str(len(runs)),
            f"{100 * statistics.fmean(run[0] for run in runs):.1f}",
            f"{100 * statistics.fmean(run[-1] for run in runs):.1f}",
            f"{sum(run[-1] > run[0] for run in runs)} of {len(runs)}",
        ]
        for (world, row), runs in sorted(found.items())
    ]
    return _grid(["world", "row", "seeds", "first cycle, %", "last cycle, %", "rose in"], cells)


def alarms(results: Path, benchmark: str) -> str:
    """Which health alarms went off, in how many trainings."""
    counts: dict[tuple[str, str], int] = {}
    totals: dict[str, int] = {}
    for record in _read(results / benchmark / TRAININGS):
        totals[record["row"]] = totals.get(record["row"], 0) + 1
        for alarm in record["alarms"]:
            counts[record["row"], alarm] = counts.get((record["row"], alarm), 0) + 1
    cells = [[row, alarm, f"{count} of {totals[row]}"] for (row, alarm), count in sorted(counts.items())]
    return _grid(["row", "alarm", "trainings"], cells or [["none", "", ""]])


def ablations(results: Path, benchmark: str, study: str) -> str:
    """What the variants of a study reached on the dev split: means over seeds, Wilson intervals for its tasks."""
    found: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for record in _read(results / benchmark / RECORDS):
        if record["study"] == study:
            found.setdefault((record["world"], record["algorithm"], record["variant"]), []).append(record)
    groups = list(dict.fromkeys(key[:2] for key in found))  # a learner's variants stand together, however they came
    cells = []
    for (world, algorithm, variant), runs in sorted(found.items(), key=lambda item: groups.index(item[0][:2])):
        success = statistics.fmean(run["success"] for run in runs)
        low, high = score_interval(success, runs[0]["tasks"], NormalDist().inv_cdf(0.975))
        agreed = [run["agreement"] for run in runs if run["agreement"]]
        cells.append(
            [
                world,
                algorithm,
                variant,
                f"{runs[0]['lr']:.1e}",
                "–" if (start := _mean(runs, "start")) is None else f"{100 * start:.1f}",
                f"{100 * success:.1f} [{100 * low:.1f}, {100 * high:.1f}]",
                ", ".join(f"{100 * run['success']:.0f}" for run in runs),
                "–" if (tokens := _mean(runs, "tokens")) is None else f"{tokens / 1e3:,.0f}",
                "–" if (steps := _mean(runs, "env_steps")) is None else f"{steps:,.0f}",
                " → ".join(f"{100 * statistics.fmean(values):.1f}" for values in zip(*agreed, strict=True)),
            ]
        )
    header = [
        "world",
        "learner",
        "variant",
        "lr",
        "start",
        "success",
        "by seed",
        "tokens, k",
        "env steps",
        "agreement, %",
    ]
    return _grid(header, cells)


def curves(results: Path, benchmark: str, world: str, against: str = "minutes") -> str:
    """What each row reached on the dev split while it learned (in %), after what it cost; means over the seeds.

    Success, or score where no row had any success. The cost is a field of `CurvePoint`; rows without any are left out.
    """
    trainings = [
        (row.result.agent.name, curve.points)
        for row in _table(results, benchmark).rows
        for curve in row.result.agent.training
        if curve.world.partition("-")[0] == world
    ]
    what = "success" if any(point.success for _, points in trainings for point in points) else "score"
    found: dict[str, dict[int, list[tuple[float, float]]]] = {}
    for name, points in trainings:
        for place, point in enumerate(points):
            cost, reached = getattr(point, against), getattr(point, what)
            if cost is not None and reached is not None:
                found.setdefault(name, {}).setdefault(place, []).append((cost, reached))
    cells = []
    for name, places in found.items():
        whole = [values for _, values in sorted(places.items())]
        if not any(cost for values in whole for cost, _ in values):
            continue
        means = [tuple(map(statistics.fmean, zip(*values, strict=True))) for values in whole]
        digits = 1 if against == "minutes" else 0
        cells.append([name, "; ".join(f"{100 * reached:.0f} after {cost:,.{digits}f}" for cost, reached in means)])
    return _grid(["row", f"{what} on dev, %, after {against.replace('_', ' ')}"], cells)


def evaluations(results: Path, benchmark: str, training: str) -> str:
    """What one training whose metrics are kept, in a folder below the benchmark's, reached on the dev split by when.

    Raises:
        StoreError: there are none.
    """
    path = results / benchmark / training / METRICS
    if not path.is_file() or not (points := read_curve(path)):
        raise StoreError(f"{path}: no evaluations; a training keeps its {METRICS} beside its checkpoint")
    cells = [
        [
            "–" if point.tokens is None else f"{point.tokens / 1e6:.1f}",
            number(point.minutes, 1),
            *("–" if value is None else f"{100 * value:.1f}" for value in (point.success, point.score)),
        ]
        for point in points
    ]
    return _grid(["tokens, M", "minutes", "success, %", "score"], cells)


def trials(results: Path, benchmark: str) -> str:
    """Single trainings that were made to look for a cause, judged on the dev split (success, %)."""
    cells = [
        [
            record["what"],
            record["settings"],
            record["world"],
            f"{record['tokens'] / 1e3:,.0f}k",
            f"{100 * record['start']:.1f}",
            f"{100 * record['success']:.1f}",
            " → ".join(f"{100 * value:.1f}" for value in record["agreement"]),
            record["commit"],
        ]
        for record in _read(results / benchmark / TRIALS)
    ]
    return _grid(["what", "settings", "world", "tokens", "start", "after", "agreement, %", "commit"], cells)


def outcomes(results: Path, benchmark: str, world: str) -> str:
    """See `causes.outcomes`."""
    return _grid(*causes.outcomes(_episodes(results, benchmark, world)))


def shopping(results: Path, benchmark: str, world: str) -> str:
    """See `causes.shopping`."""
    return _grid(*causes.shopping(_episodes(results, benchmark, world)))


def _episodes(results: Path, benchmark: str, world: str) -> causes.Rows:
    names = [row.result.agent.name for row in _table(results, benchmark).rows]
    return {
        name: [r for r in read_episodes(episodes_path(results / benchmark / name)) if r.world == world]
        for name in names
    }


def provenance(results: Path, benchmark: str) -> str:
    """Where the rows come from: benchmark, commits, machine."""
    table = _table(results, benchmark)
    sessions = [session for row in table.rows for session in row.result.sessions]
    commits = sorted({f"{s.commit[:7]}{' + changes' if s.dirty else ''}" for s in sessions if s.commit})
    first = sessions[0]
    seeds = max(world.episodes // world.tasks for row in table.rows for world in row.result.worlds)
    trained = sorted({r["commit"][:7] for r in _read(results / benchmark / TRAININGS) if r.get("commit")})
    return (
        f"Benchmark `{table.benchmark}` (hash {table.benchmark_hash[:12]}), {len(table.rows)} rows, {seeds} run seeds; "
        f"judged at commit {', '.join(commits)}{', trained at ' + ', '.join(trained) if trained else ''}; "
        f"Python {first.python}, torch {first.packages.get('torch', '–')}, {first.cpus} cores. Intervals: 95 %."
    )


FIGURES: dict[str, Callable[..., str]] = {
    each.__name__: each
    for each in (
        rows,
        tests,
        agreement,
        alarms,
        time,
        trials,
        ablations,
        curves,
        evaluations,
        outcomes,
        shopping,
        provenance,
    )
}
"""Name -> what makes the figure, from the folder of results and the words after the name."""


# --- command -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Publish:
    name: tyro.conf.Positional[str]
    """The experiment."""
    out: Path = Path("runs")
    """The folder it ran in."""
    rows: tuple[str, ...] = ()
    """Only these rows."""
    keep: tuple[str, ...] = ()
    """Worlds of which the learners' checkpoints of the first run seed are kept too."""


@dataclass(frozen=True)
class _Studies:
    file: tyro.conf.Positional[Path] = Path("runs/ablations") / RECORDS
    """Records of `python -m leaderboard.ablations`."""


@dataclass(frozen=True)
class _Rejudge:
    name: tyro.conf.Positional[str]
    """The experiment."""
    out: Path = Path("runs/rejudged")
    """Folder for the new episodes."""


@dataclass(frozen=True)
class _Figures:
    page: Path = PAGE
    """The page."""
    check: bool = False
    """Change nothing; fail where a figure is not what the results give."""


def main(argv: list[str] | None = None) -> int:
    """`python -m leaderboard.evidence {publish,studies,rejudge,figures}`."""
    console = Console(soft_wrap=True)
    arguments = tyro.extras.subcommand_cli_from_dict(
        {"publish": _Publish, "studies": _Studies, "rejudge": _Rejudge, "figures": _Figures},
        args=argv,
        prog="python -m leaderboard.evidence",
    )
    if isinstance(arguments, _Publish):
        for folder in publish(arguments.name, arguments.out, rows=arguments.rows, keep=arguments.keep):
            console.print(str(folder), highlight=False)
        return 0
    if isinstance(arguments, _Studies):
        for path in publish_studies(arguments.file):
            console.print(str(path), highlight=False)
        return 0
    if isinstance(arguments, _Rejudge):
        differ = 0
        for what, episodes, same in rejudge(arguments.name, arguments.out):
            console.print(f"{what}: {same} of {episodes} episodes are as published", highlight=False)
            differ += episodes - same
        return 1 if differ else 0
    text = arguments.page.read_text(encoding="utf-8")
    made = fill(text)
    if arguments.check and made != text:
        console.print(f"{arguments.page}: figures are not what the results give; run this without --check")
        return 1
    if not arguments.check:
        arguments.page.write_text(made, encoding="utf-8", newline="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
