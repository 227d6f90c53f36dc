r"""Time another program beside sigmine on the same files, in turn, as ratios.

    python -m benchmarks.make_data build/data --strata 1 4 16
    python -m benchmarks.compare --data build/data/*.transactions \
        --program "facs -t {items} -l {labels} -c {strata} -f 0.05 -o {tmp}/summary" \
        --answer {tmp}/summary --expect-count "testable itemsets: (\d+)" \
        --method asymptotic exact --variance cochran --grid-step 0.06 --jobs 1 2
    python -m benchmarks.compare --task closed --data build/data/chess@2400,1600,1200 \
        --against "LCM 5.3=lcm53 C {fimi} {support}" "LCM 3.0=lcm30 {fimi} {support}" \
        --expect-count "\A(\d+)$" --count-slack 1 --out build/closed.csv

In every round each data set is given to every program, to sigmine as a whole process, and to
processes that have their kernels loaded, where the search alone is timed. CPU time is user plus
system time. `benchmarks.peers` lists what a template may name. With --expect-... a program that
answers differently from our first search ends the comparison. Standard library only: a small
parent does not distort the memory of its children.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers import Answer, DataFiles, Program, read_answer, refuse_different
from benchmarks.peers_tables import PROCESS, PROGRAM, SEARCH, TABLE, ratios, summary
from benchmarks.processes import Cost, run_process
from benchmarks.records import REPOSITORY, RESULTS, Row, print_table, write_records


class Task(NamedTuple):
    """One data set, and the fewest rows of an itemset where that is asked for."""

    files: DataFiles
    support: int | None

    @property
    def name(self) -> str:
        """What the results call it."""
        name = self.files.prefix.name
        return name if self.support is None else f"{name}@{self.support}"


class Contender(NamedTuple):
    """One way to run sigmine."""

    what: str
    method: str
    jobs: int
    command: list[str]


def main() -> None:
    options = _options()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        tasks = list(_tasks(options, Path(folder)))
        # Not counted: fills numba's cache, and checks that every command works.
        _one_round(tasks[0], 0, options)
        for task in tasks:
            started = time.monotonic()
            for number in range(options.rounds):
                rows += _one_round(task, number, options)
                if time.monotonic() - started > options.budget:
                    break
            print_table(summary([row for row in rows if row["data"] == task.name]))
            write_records(options.out, rows, _facts(options))
    print()
    print_table(summary(rows))
    if table := ratios(rows):
        print()
        print_table(table)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        metavar="PREFIX[@N,...]",
        help="of PREFIX.transactions, .labels, .covariates; N as --min-support",
    )
    parser.add_argument("--task", choices=("significant", "closed"), default="significant")
    parser.add_argument(
        "--min-support", nargs="+", type=int, default=[], help="rows of a closed itemset"
    )
    _add_program(parser)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--budget", type=float, default=120.0, help="seconds a data set before a next round"
    )
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds a process")
    parser.add_argument("--out", type=Path, default=RESULTS / "compare.csv")
    # As `sigmine mine` and `benchmarks.warm_search` have them.
    parser.add_argument("--jobs", nargs="+", type=int, default=[1], help="workers of our search")
    parser.add_argument("--method", nargs="+", default=["exact"], help="the first is checked")
    parser.add_argument("--alternative", default="two-sided")
    parser.add_argument("--two-sided", default="central")
    parser.add_argument("--variance", default="mantel-haenszel")
    parser.add_argument("--grid-step", type=float)
    return parser.parse_args()


def _add_program(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how the other program is run and what it answers."""
    parser.add_argument(
        "--program",
        nargs="+",
        metavar="TEMPLATE",
        help="command line of the other program; of each stage, if it has several",
    )
    parser.add_argument(
        "--against",
        nargs="+",
        default=[],
        metavar="NAME=TEMPLATE",
        help="several programs of one stage each, whose answers are read alike",
    )
    parser.add_argument(
        "--answer", nargs="+", default=[], metavar="FILE", help="read besides stdout"
    )
    for name in ("count", "threshold", "significant"):
        parser.add_argument(f"--expect-{name}", metavar="REGEX", help="group 1 must equal ours")
    parser.add_argument(
        "--capture", nargs="+", default=[], metavar="NAME=REGEX", help="fields of later stages"
    )
    parser.add_argument("--count-slack", type=int, default=0, help="difference that is accepted")


def _programs(options: argparse.Namespace) -> dict[str, Program]:
    """Return the other programs by name; that of ``--program`` is called by its file."""
    patterns = {
        name: pattern
        for name in ("count", "threshold", "significant")
        if (pattern := getattr(options, f"expect_{name}"))
    }
    for text in options.capture:
        name, _, pattern = text.partition("=")
        patterns[name] = pattern
    stages: dict[str, list[str]] = {}
    if options.program:
        stages[Path(options.program[0].partition(" ")[0]).name] = options.program
    for text in options.against:
        name, _, template = text.partition("=")
        if not name or not template or name in stages:
            sys.exit(f"--against {text!r} is not NAME=TEMPLATE with a name of its own.")
        stages[name] = [template]
    how = options.answer, patterns, options.count_slack, options.limit
    return {name: Program(templates, *how) for name, templates in stages.items()}


def _facts(options: argparse.Namespace) -> dict[str, str]:
    """Say what was compared; without the folders that the programs lie in."""
    facts = {"task": options.task}
    if options.task == "significant":
        facts["options"] = " ".join(_search_options(options, " ".join(options.method)))
    for name, program in _programs(options).items():
        for number, stage in enumerate(program.stages, start=1):
            path, _, arguments = stage.partition(" ")
            stage_name = name if len(program.stages) == 1 else f"{name}, stage {number}"
            facts[f"program {stage_name}"] = f"{Path(path).name} {arguments}"
    return facts


def _tasks(options: argparse.Namespace, folder: Path) -> Iterator[Task]:
    for text in options.data:
        path, _, levels = text.partition("@")
        files = DataFiles(Path(path.removesuffix(".transactions")), folder)
        supports = [int(level) for level in levels.split(",")] if levels else options.min_support
        if options.task == "significant":
            yield Task(files, None)
        elif supports:
            yield from (Task(files, support) for support in supports)
        else:
            sys.exit(f"{text}: no support; say it as {path}@N or --min-support N, in rows.")


def _search_options(options: argparse.Namespace, method: str) -> list[str]:
    given = ["--method", method, "--variance", options.variance]
    given += ["--alternative", options.alternative, "--two-sided", options.two_sided]
    return given + (["--grid-step", str(options.grid_step)] if options.grid_step else [])


def _contenders(task: Task, options: argparse.Namespace, tmp: Path) -> Iterator[Contender]:
    """List our runs; the first search is the one that is compared with the program."""
    prefix = str(task.files.prefix)
    warm = [sys.executable, "-m", "benchmarks.warm_search", prefix]
    if options.task == "closed":
        warm += ["--task", "closed", "--min-support", str(task.support)]
        yield Contender(PROCESS, "closed", 1, [*warm, "--cold"])
        yield Contender(SEARCH, "closed", 1, warm)
        for jobs in options.jobs:
            yield Contender(TABLE, "closed", jobs, [*warm, "--table", "--jobs", str(jobs)])
        return
    # `sigmine mine` knows transactions by this ending.
    items = tmp / "items.dat"
    items.symlink_to(f"{prefix}.transactions")
    mine = f"-m sigmine mine {items} --top 0 --quiet --out {tmp}/patterns.csv".split()
    mine += ["--labels", f"{prefix}.labels", "--covariates", f"{prefix}.covariates"]
    mine += _search_options(options, options.method[0])
    yield Contender(PROCESS, options.method[0], 1, [sys.executable, *mine])
    for method in options.method:
        for jobs in options.jobs:
            asked = [*_search_options(options, method), "--jobs", str(jobs)]
            yield Contender(SEARCH, method, jobs, [*warm, *asked])


def _one_round(task: Task, number: int, options: argparse.Namespace) -> list[Row]:
    """Run each contender once on one data set."""
    rows: list[Row] = []
    theirs: dict[str, Answer] = {}
    with tempfile.TemporaryDirectory() as folder:
        tmp = Path(folder)
        for beside, program in _programs(options).items():
            cost, found = program.run(task.files, tmp, task.support)
            theirs[beside] = read_answer(found)
            answer = {k: value for k, value in asdict(theirs[beside]).items() if value is not None}
            rows.append(_record(task.name, number, PROGRAM, "", 1, cost, answer, beside))
        answers: dict[str, Answer] = {}
        for what, method, jobs, command in _contenders(task, options, tmp):
            cost = run_process(command, directory=REPOSITORY, limit_s=options.limit)
            said = json.loads(cost.output) if what in (SEARCH, TABLE) else {}
            if said:
                ours = Answer(said["count"], said.get("threshold"), said.get("significant"))
                if not answers:
                    for beside, their in theirs.items():
                        refuse_different(task.name, beside, their, ours, options.count_slack)
                # Neither workers nor what is made of the itemsets may change the answer.
                first = answers.setdefault(method, ours)
                refuse_different(task.name, f"our first {method} search", first, ours)
            rows.append(_record(task.name, number, what, method, jobs, cost, said))
    return rows


def _record(
    data: str,
    number: int,
    what: str,
    method: str,
    jobs: int,
    cost: Cost,
    said: dict[str, float],
    beside: str = "",
) -> Row:
    """Make a row of the results; a warm process says itself what its search took."""
    return {
        "data": data,
        "round": number,
        "what": what,
        "beside": beside,  # which of the other programs, or none: one of our runs
        "method": method,
        "jobs": jobs,
        "cpu_s": said.get("search_cpu_s", cost.cpu_s),
        "wall_s": said.get("search_wall_s", cost.wall_s),
        "peak_mb": cost.peak_mb,
        "read_cpu_s": said.get("read_cpu_s", ""),
        "visited": said.get("visited", ""),
        "count": said.get("count", ""),
        "threshold": said.get("threshold", ""),
        "significant": said.get("significant", ""),
    }


if __name__ == "__main__":
    main()
