r"""Whether the references of a problem set can be graded at all, and which of them look wrong.

A reference passes when the grader accepts it, put into a box, as its own answer. One that does not would reward no
completion and teach a model that nothing is right. A suspicious one passes, but somebody should look at it.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from polaris_data.errors import MissingExtraError
from polaris_data.files.journal import whole_file, write_text
from polaris_data.problems.reading import to_json_line
from polaris_data.records import Problem

if TYPE_CHECKING:
    from polaris_reward import GradeMany

BATCH = 512
"""Problems that are graded together."""

MAX_REFERENCE_CHARS = 200
"""A longer one is hardly ever an answer."""

PROBE = r"\boxed{27182818284590452}"
"""An answer that is spelled like no reference: whoever rejects the reference then cannot read it."""

_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{([^{}]*)\}")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mbox|mathbf)\s*\{([^{}]*)\}")
_SPACE_END = re.compile(r"(?:\\[,;:! ]|\s)+\Z")
_CUT_END = re.compile(r"(?:[=+\-/^_,({\[<>]|\\(?:d?frac|sqrt|left|cdot|times|le|ge)?)\Z")
_EMPTY_ARGUMENT = re.compile(
    r"\\d?frac\s*(?:\{\s*\}|\{[^{}]*\}\s*(?:\{\s*\}|\Z))|(?:\\sqrt|[_^])\s*\{\s*\}"
    r"|(?:\A|[({\[])\s*\^(?!\s*\{?\s*\\circ)|[({\[]\s*,"
)
_PRICE = re.compile(r"-?\$\s*-?[\d,.]+")
_LINKED = re.compile(r"(?<![A-Za-z])(?:or|and)(?![A-Za-z])|;|\\\\\s*\\(?:quad|text)|\$\s*,\s*\$", re.IGNORECASE)
_CHOICE = re.compile(r"\(?([A-E])\)?\.?")
# Single letters are names of variables rather than units.
_UNIT = re.compile(
    r"(?:[cmk]m|in|ft|yd|kg|lbs?|sec|min|hrs?|hours?|minutes?|seconds?|days?|years?|meters?|metres?|miles?|inches"
    r"|feet|degrees?|dollars?|cents?|percent|units?|square units|\\?%|\^?\\circ|°|\\\$)(?:\s*\^\s*\{?[23]\}?)?",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong with one reference, or looks wrong."""

    problem_id: str
    """Of the problem set."""

    finding: str
    """An outcome of the grader, or what makes the reference suspicious."""

    is_refused: bool
    """Whether the grader does not accept the reference; else it is only suspicious."""

    reference: str
    """As it stands in the problem set."""


def suspicions(reference: str) -> list[str]:
    """Return what looks wrong with a reference; nothing for most.

    None of it is proof: "B" may be the name of a point, and "x = 1 or x = 2" one answer.
    """
    words = " ".join(_TEXT.sub(r" \1 ", reference).replace("$", " ").split())
    if not re.sub(r"\\[,;:! ]|[\s{}.]", "", words):
        return ["empty"]
    found: list[str] = []
    if not _is_balanced(reference) or _CUT_END.search(_SPACE_END.sub("", words)) or _EMPTY_ARGUMENT.search(reference):
        found.append("truncated LaTeX")
    if _LINKED.search(words) or _LINKED.search(reference):
        found.append("several answers")
    if _CHOICE.fullmatch(words):
        found.append("a choice letter only")
    if _UNIT.fullmatch(words):
        found.append("a unit only")
    if len(reference) > MAX_REFERENCE_CHARS:
        found.append("very long")
    return found


def check_references(problems: Iterable[Problem], grade_many: GradeMany) -> Iterator[tuple[Problem, list[Finding]]]:
    """Yield each problem with what is wrong with its references, and what looks wrong.

    Args:
        problems: Any number; `BATCH` of them are graded together.
        grade_many: With the policy that training will use.

    Raises:
        MissingExtraError: If polaris-reward is not installed.
    """
    remaining = iter(problems)
    while batch := list(islice(remaining, BATCH)):
        findings: dict[str, list[Finding]] = {problem.problem_id: [] for problem in batch}
        for finding in _check_batch(batch, grade_many):
            findings[finding.problem_id].append(finding)
        for problem in batch:
            yield problem, findings[problem.problem_id]


def write_checked(
    checked: Iterable[tuple[Problem, list[Finding]]], out: Path, findings: Path, *, drop_suspicious: bool = False
) -> int:
    """Write the problems that pass to one file of JSON lines, and all findings to another.

    Args:
        checked: What `check_references` yields.
        out: For the problems whose references are all accepted.
        findings: For what is wrong or looks wrong, of all problems.
        drop_suspicious: Let a problem with a suspicious reference not pass either.

    Returns:
        How many problems pass.
    """
    num_passed = 0
    with whole_file(out) as out_name, out_name.open("w", encoding="utf-8") as out_file:

        def lines() -> Iterator[str]:
            nonlocal num_passed
            for problem, found in checked:
                yield from (json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in found)
                if not any(one.is_refused or drop_suspicious for one in found):
                    num_passed += 1
                    out_file.write(to_json_line(problem))

        write_text(findings, lines())
    return num_passed


def findings_path(out: Path) -> Path:
    """Return where the findings are: ``NAME.findings.jsonl`` beside the problems."""
    return out.with_name(f"{out.name}.findings.jsonl")


def _check_batch(batch: Sequence[Problem], grade_many: GradeMany) -> Iterator[Finding]:
    try:
        from polaris_reward import Outcome
        from polaris_reward.finding import reference_answer
    except ImportError as error:
        raise MissingExtraError(
            f"checking references needs polaris-reward: pip install 'polaris-data[profile]>=2026.11' ({error})"
        ) from error
    pairs = [(problem, text) for problem in batch for text in problem.references]
    own = grade_many([(rf"\boxed{{{reference_answer(text)}}}", [text]) for _, text in pairs])
    probed = grade_many([(PROBE, [text]) for _, text in pairs])
    for (problem, text), as_own, as_probe in zip(pairs, own, probed, strict=True):
        if as_own.outcome is not Outcome.CORRECT:
            yield _found(problem, as_own.outcome, text, is_refused=True)
        elif as_probe.outcome is Outcome.REFERENCE_REJECTED:
            yield _found(problem, "spelling only", text)
        for suspicion in suspicions(text):
            yield _found(problem, suspicion, text)
    others = [(problem, text) for problem in batch for text in problem.references[1:]]
    grades = grade_many([(rf"\boxed{{{reference_answer(text)}}}", problem.references[:1]) for problem, text in others])
    for (problem, text), grade in zip(others, grades, strict=True):
        if grade.outcome is Outcome.INCORRECT:
            yield _found(problem, "contradicts the first reference", text)


def _found(problem: Problem, finding: str, reference: str, *, is_refused: bool = False) -> Finding:
    return Finding(problem_id=problem.problem_id, finding=str(finding), is_refused=is_refused, reference=reference)


def _is_balanced(text: str) -> bool:
    depth = 0
    for token in _BRACES.finditer(text):
        depth += {"{": 1, "}": -1}.get(token[0], 0)
        if depth < 0:
            return False
    environments = [found[1] for found in _ENVIRONMENT.finditer(text)]
    num_dollars = len(re.findall(r"(?<!\\)\$", text))
    return (
        depth == 0
        and environments.count("begin") == environments.count("end")
        and len(re.findall(r"\\left(?![A-Za-z])", text)) == len(re.findall(r"\\right(?![A-Za-z])", text))
        and (num_dollars % 2 == 0 or _PRICE.fullmatch(text) is not None)
    )
