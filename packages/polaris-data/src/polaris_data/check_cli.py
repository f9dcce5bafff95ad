"""The command ``polaris-data check``."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from polaris_data.errors import MissingExtraError
from polaris_data.options import DataSplit, Limit, ProblemsArgument, Revision, SkipInvalid

if TYPE_CHECKING:
    from polaris_data.check import Finding
    from polaris_data.records import Problem

_REFERENCES, _REFUSED = "references", "refused references"


def check_command(
    problems: ProblemsArgument,
    out: Annotated[
        Path | None,
        typer.Option(dir_okay=False, help="Write the problems that pass (.jsonl), and the findings beside them."),
    ] = None,
    drop_suspicious: Annotated[
        bool, typer.Option("--drop-suspicious", help="Let problems with a suspicious reference not pass either.")
    ] = False,
    limit: Limit = None,
    skip_invalid: SkipInvalid = False,
    split: DataSplit = "train",
    revision: Revision = None,
) -> None:
    """Check that every reference, put into a box, is accepted as its own answer, and list suspicious ones.

    Reads PROBLEMS. Without --out, lists each finding: problem id, what is wrong, reference, between tabs. With it,
    writes the problems whose references are all accepted to OUT and the findings to OUT.findings.jsonl. Suspicious:
    empty, truncated LaTeX, several answers, a choice letter or unit only, very long, contradicting the first
    reference, or 'spelling only' (the grader reads no meaning in it, so that an answer must be spelled like it).

    \b
    Examples:
      polaris-data check problems.jsonl
      polaris-data check problems.jsonl --out gradable.jsonl
    """
    from polaris_data.check import check_references, findings_path, write_checked
    from polaris_data.journal import whole_file
    from polaris_data.outputs import check_output, claim_output
    from polaris_data.problems import iterate_problems
    from polaris_data.progress import track
    from polaris_data.sources import count_rows, fingerprint

    try:
        from polaris_reward import BOXED, Grader
    except ImportError as error:
        raise MissingExtraError(
            f"checking references needs polaris-reward: pip install 'polaris-data[profile]>=2026.11' ({error})"
        ) from error
    settings = {
        "command": "polaris-data check",
        **fingerprint(problems, split=split, revision=revision),
        "drop_suspicious": drop_suspicious,
        "limit": limit,
        "skip_invalid": skip_invalid,
    }
    if out is not None:
        check_output(out, settings)
    rows = iterate_problems(
        problems, limit=limit, split=split, revision=revision, on_invalid="skip" if skip_invalid else "error"
    )
    counts: Counter[str] = Counter()
    with Grader(policy=BOXED, max_failed_share=None) as grader:
        shown = track(rows, total=limit or count_rows(problems), label="checking")
        checked = _counted(check_references(shown, grader.grade_many), counts)
        if out is None:
            for _, findings in checked:
                for one in findings:
                    print(one.problem_id, one.finding, json.dumps(one.reference, ensure_ascii=False), sep="\t")
        else:
            with whole_file(out) as passing, whole_file(findings_path(out)) as findings:
                num_passed = write_checked(checked, passing, findings, drop_suspicious=drop_suspicious)
                claim_output(out, settings)
            print(f"wrote {out} ({num_passed:,} problems that pass) and {findings_path(out)}")
    num_references, num_refused = counts.pop(_REFERENCES), counts.pop(_REFUSED)
    print(f"{num_references - num_refused:,} of {num_references:,} references are accepted as their own answer")
    for finding, count in counts.most_common():
        print(f"{count:>9,}  {finding}")


def _counted(
    checked: "Iterator[tuple[Problem, list[Finding]]]", counts: Counter[str]
) -> "Iterator[tuple[Problem, list[Finding]]]":
    """Pass checked problems through, and count references, refused ones, and findings by their names."""
    for problem, findings in checked:
        counts[_REFERENCES] += len(problem.references)
        counts[_REFUSED] += sum(one.is_refused for one in findings)
        counts.update(one.finding for one in findings)
        yield problem, findings
