"""Measure import, dedup and decontaminate on a million problems, and the ratio to a plain Python loop on 20,000.

Run as ``python tests/bench/data.py``. The problems are generated: statements of about 60 words over a vocabulary
with Zipf's law, with formulas and numbers; 5% of the rows are exact copies in another typesetting, 5% are the same
problem in other words, 0.1% are benchmark problems. What was planted must be found, and nothing else.
Every step is a command of its own, whose time, processor time and peak memory are printed.
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

EXACT, NEAR, CONTAMINATED = 0.05, 0.05, 0.001
NUM_BENCHMARK = 2_000
VOCABULARY = 20_000
ZIPF_EXPONENT = 1.0
REWORDED = (
    ("Find", "Determine"),
    ("Given that", "Suppose that"),
    ("such that", "for which"),
    ("is equal to", "equals"),
)


def main() -> None:
    """Print seconds, peak GiB and counts as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=1_000_000)
    parser.add_argument("--compared", type=int, default=20_000, help="Problems for the comparison with a plain loop.")
    parser.add_argument("--folder", type=Path, help="Keep the files here instead of in a temporary folder.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        report = measure_commands(folder, arguments.problems)
        report["comparison"] = compare_with_loop(folder, arguments.compared)
    print(json.dumps(report, indent=2))


def measure_commands(folder: Path, num_problems: int) -> dict[str, Any]:
    """Run import, dedup and decontaminate on generated problems, and make sure that they find what was planted."""
    raw, bench = folder / "raw.jsonl", folder / "bench.jsonl"
    planted = write_rows(raw, bench, num_problems)
    steps = {
        "import": ["import", str(raw), "--out", str(folder / "problems.jsonl"), "--ids", "own"],
        "dedup": ["dedup", str(folder / "problems.jsonl"), "--out", str(folder / "unique")],
        "decontaminate": [
            *("decontaminate", str(folder / "unique" / "problems.jsonl"), "--against", str(bench)),
            *("--out", str(folder / "clean")),
        ],
    }
    report: dict[str, Any] = {"problems": num_problems, "planted": dict(planted)}
    for name, command in steps.items():
        started = time.perf_counter()
        script = str(Path(__file__).resolve())
        done = subprocess.run([sys.executable, script, "run", *command], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        peak = json.loads(done.stderr.splitlines()[-1])
        report[name] = {"seconds": round(time.perf_counter() - started, 1), **peak}
        print(name, report[name], file=sys.stderr)
    report["total_seconds"] = round(sum(report[name]["seconds"] for name in steps), 1)
    duplicates = json.loads((folder / "unique" / "counts.json").read_text())
    contamination = json.loads((folder / "clean" / "counts.json").read_text())
    report["duplicates"], report["contamination"] = duplicates, contamination
    found = duplicates["exact duplicate"] + duplicates["near duplicate"]
    assert duplicates["num_problems"] == num_problems
    assert 0.99 * (planted["exact"] + planted["near"]) <= found <= 1.001 * (planted["exact"] + planted["near"])
    ids = {json.loads(line)["problem_id"] for line in (folder / "clean" / "findings.jsonl").open()}
    assert ids, "no benchmark problem was planted: take more problems"
    assert all(name.startswith("contaminated") for name in ids)
    assert len(ids) >= 0.99 * planted["contaminated"]
    return report


def run_command(arguments: list[str]) -> None:
    """Run one polaris-data command here, and print its peak memory with that of its largest child."""
    from polaris_data.cli import app

    app(arguments, standalone_mode=False)
    own, child = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    used = {
        "cpu_seconds": round(own.ru_utime + own.ru_stime + child.ru_utime + child.ru_stime, 1),
        "peak_gib": round(own.ru_maxrss / 2**20, 2),
        "largest_child_gib": round(child.ru_maxrss / 2**20, 2),
    }
    print(json.dumps(used), file=sys.stderr)


def write_rows(raw: Path, bench: Path, num_problems: int) -> Counter[str]:
    """Write raw rows and a benchmark, and return how many rows of each kind were planted."""
    rng = random.Random(0)
    planted: Counter[str] = Counter()
    benchmark = [statement(rng) for _ in range(min(NUM_BENCHMARK, num_problems))]
    with bench.open("w", encoding="utf-8") as file:
        for number, (question, answer) in enumerate(benchmark):
            file.write(json.dumps({"id": f"bench-{number}", "problem": question, "answer": answer}) + "\n")
    # Each benchmark problem at most once, so that a copy of it is no duplicate.
    hidden = iter(rng.sample(benchmark, min(len(benchmark), int(CONTAMINATED * num_problems))))
    recent: list[tuple[str, str]] = []
    with raw.open("w", encoding="utf-8") as file:
        for number in range(num_problems):
            draw, kind = rng.random(), "original"
            if recent and draw < EXACT:
                (question, answer), kind = recent.pop(rng.randrange(len(recent))), "exact"
                question = question.replace("$", " $ ")
            elif recent and draw < EXACT + NEAR:
                (question, answer), kind = recent.pop(rng.randrange(len(recent))), "near"
                for old, new in REWORDED:
                    question = question.replace(old, new)
            elif draw > 1 - CONTAMINATED and (item := next(hidden, None)):
                (question, answer), kind = item, "contaminated"
            else:
                question, answer = statement(rng)
                if len(recent) < 5_000:
                    recent.append((question, answer))
                else:
                    recent[rng.randrange(len(recent))] = (question, answer)
            planted[kind] += 1
            file.write(json.dumps({"id": f"{kind}-{number}", "problem": question, "answer": answer}) + "\n")
    return planted


def vocabulary() -> tuple[list[str], list[float]]:
    """Return words and the cumulated weights of Zipf's law."""
    rng = random.Random(1)
    words = list(
        dict.fromkeys(
            "".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randint(3, 9))) for _ in range(VOCABULARY)
        )
    )
    total, cumulated = 0.0, list[float]()
    for rank in range(1, len(words) + 1):
        total += 1 / rank**ZIPF_EXPONENT
        cumulated.append(total)
    return words, cumulated


WORDS, WEIGHTS = vocabulary()


def statement(rng: random.Random) -> tuple[str, str]:
    """Return a question of about 60 words with two formulas, and an answer."""
    words = rng.choices(WORDS, cum_weights=WEIGHTS, k=50)
    a, b, c, d = (rng.randint(2, 99) for _ in range(4))
    x, y = rng.sample("abcmnxyz", 2)
    question = (
        f"Given that ${a}{x} + {b}{y} = {c}$ is equal to {' '.join(words[:20])}, such that {' '.join(words[20:40])}. "
        f"Find ${x}^{{2}} - {d}{y}$ for {' '.join(words[40:])}."
    )
    return question, str(rng.randint(0, 999))


def compare_with_loop(folder: Path, num_problems: int) -> dict[str, Any]:
    """Find the duplicates of a smaller set with `find_duplicates` and with a loop over all pairs."""
    from polaris_data import read_problems
    from polaris_data.duplicates.dedup import find_duplicates

    raw = folder / "small.jsonl"
    write_rows(raw, folder / "small-bench.jsonl", num_problems)
    problems = read_problems(raw)
    started = time.perf_counter()
    clusters = find_duplicates(problems)
    ours_seconds = time.perf_counter() - started
    started = time.perf_counter()
    slow = set(pairs_by_loop([problem.question for problem in problems], [problem.references for problem in problems]))
    loop_seconds = time.perf_counter() - started
    place = {problem.problem_id: number for number, problem in enumerate(problems)}
    ours = {
        pair
        for cluster in clusters
        for first in cluster.members
        for pair in [tuple(sorted((place[first.problem_id], place[cluster.kept])))]
        if pair[0] != pair[1]
    }
    assert len(ours & slow) >= 0.99 * len(slow | ours), (len(ours), len(slow), len(ours & slow))
    return {
        "problems": num_problems,
        "seconds": round(ours_seconds, 2),
        "loop_seconds": round(loop_seconds, 1),
        "times_the_loop": round(loop_seconds / ours_seconds, 1),
        "pairs": len(ours),
        "pairs_of_the_loop": len(slow),
        "pairs_of_both": len(ours & slow),
    }


def pairs_by_loop(questions: list[str], references: list[tuple[str, ...]]) -> Iterator[tuple[int, int]]:
    """Compare every question with every other one, as one would write it down: sets of tokens, then the rules."""
    from polaris_data.duplicates.same_problem import MIN_SIMILARITY, compare, read_statement

    statements = [read_statement(question, answers) for question, answers in zip(questions, references, strict=True)]
    sets = [frozenset(statement.counts) for statement in statements]
    for b, theirs in enumerate(sets):
        for a in range(b):
            ours = sets[a]
            shared = len(ours & theirs)
            if shared < MIN_SIMILARITY * (len(ours) + len(theirs) - shared):
                continue
            likeness = compare(statements[a], statements[b])
            agree = not statements[a].answers.isdisjoint(statements[b].answers)
            if likeness.kind and (agree or not likeness.if_answers_agree):
                yield a, b


if __name__ == "__main__":
    if sys.argv[1:2] == ["run"]:
        run_command(sys.argv[2:])
    else:
        main()
