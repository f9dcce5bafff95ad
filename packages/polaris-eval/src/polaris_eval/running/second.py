"""What a second grader says of the same completions, and where it disagrees: a list to look at, not another score."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any

from polaris_data.files import track, write_text
from polaris_data.problems import json_lines
from polaris_reward import Outcome

from polaris_eval.errors import SettingError

Verdict = Callable[[str, Sequence[str]], bool]
"""From a response and the accepted answers to whether one of them is given; called in the main thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SecondOpinion:
    """How a second grader compares."""

    grader: str
    """Name and version."""

    num_completions: int
    """Seen by both."""

    num_only_first: int
    """Correct here, and not for the second grader."""

    num_only_second: int
    """Correct for the second grader, and not here."""

    mean_at_k: float
    """Of the second grader's verdicts."""

    disagreements: Path
    """File with a line for each completion that they disagree on."""

    def __str__(self) -> str:
        """Say it in a line."""
        agreed = self.num_completions - self.num_only_first - self.num_only_second
        return (
            f"{self.grader} agrees on {agreed:,} of {self.num_completions:,} ({agreed / self.num_completions:.1%}), "
            f"and its mean@k is {100 * self.mean_at_k:.1f}: {self.num_only_first:,} are correct here only, "
            f"{self.num_only_second:,} there only; see {self.disagreements}"
        )


def second_opinion(folder: Path, grader: str) -> SecondOpinion:
    """Let a second grader judge what was graded, and write down where it disagrees.

    Every completion in ``FOLDER/completions.jsonl`` gets the verdict under ``second``; scores stay what they are. Those
    with different verdicts stand in ``FOLDER/disagreements.jsonl``.

    Args:
        folder: Of a benchmark, as ``run`` or ``grade`` wrote it.
        grader: One of `SECOND_GRADERS`.

    Raises:
        SettingError: If the grader is unknown or not installed.
        DataError: If the file of completions is damaged.
    """
    name, verdict = open_second_grader(grader)
    path = folder / "completions.jsonl"
    records = [dict(row.columns) for row in json_lines(path)]
    differing: list[dict[str, Any]] = []
    verdicts: list[list[bool]] = []
    only_first = 0
    for record in track(records, total=len(records), label=f"grading with {grader}"):
        verdicts.append([_judge(each, record, verdict) for each in record["completions"]])
        for sample, (each, accepted) in enumerate(zip(record["completions"], verdicts[-1], strict=True)):
            outcome = Outcome.CORRECT if accepted else Outcome.INCORRECT
            each["second"] = {"grader": name, "outcome": outcome.value}
            is_correct = each["outcome"] == Outcome.CORRECT
            if is_correct != accepted:
                only_first += is_correct
                differing.append(_line(record, sample, each))
    write_text(path, (json.dumps(record, ensure_ascii=False) + "\n" for record in records))
    write_text(folder / "disagreements.jsonl", (json.dumps(line, ensure_ascii=False) + "\n" for line in differing))
    return SecondOpinion(
        grader=name,
        num_completions=sum(map(len, verdicts)),
        num_only_first=only_first,
        num_only_second=len(differing) - only_first,
        mean_at_k=fmean(map(fmean, verdicts)),
        disagreements=folder / "disagreements.jsonl",
    )


def open_second_grader(grader: str) -> tuple[str, Verdict]:
    """Return name, version and verdict of a second grader.

    Raises:
        SettingError: If it is unknown or not installed.
    """
    if grader not in SECOND_GRADERS:
        raise SettingError(f"--second-grader is {grader!r}; give one of: {', '.join(SECOND_GRADERS)}")
    try:
        return f"{grader} {version(grader)}", SECOND_GRADERS[grader]()
    except ImportError:
        raise SettingError(f"--second-grader {grader} is not installed: pip install {grader}") from None


def _math_verify() -> Verdict:
    """Return the verdict of math-verify with its own defaults and time limits."""
    from math_verify import parse, verify

    def verdict(response: str, references: Sequence[str]) -> bool:
        answer: Any = parse(response)
        return any(
            verify(parse(reference if "$" in reference or "\\boxed" in reference else f"${reference}$"), answer)
            for reference in references
        )

    return verdict


SECOND_GRADERS: Mapping[str, Callable[[], Verdict]] = {"math-verify": _math_verify}
"""By the name of their distribution, what opens them."""


def _judge(completion: Mapping[str, Any], record: Mapping[str, Any], verdict: Verdict) -> bool:
    return verdict(completion.get("prefilled", "") + completion["text"], record["references"])


def _line(record: Mapping[str, Any], sample: int, completion: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "problem_id": record["problem_id"],
        "sample": sample,
        "references": record["references"],
        "answer": completion["answer"],
        "outcome": completion["outcome"],
        "second": completion["second"],
        "text": completion["text"],
    }
