r"""Whether the references of a problem set can be graded at all, and which of them look wrong.

A reference passes when the grader accepts it, put into a box, as its own answer. One that does not would reward no
completion and teach a model that nothing is right. A suspicious one passes, but somebody should look at it.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from polaris_data.errors import MissingExtraError
from polaris_data.files.journal import check_output, claim_output, whole_text
from polaris_data.files.progress import track
from polaris_data.problems.answers import num_words
from polaris_data.problems.prompts import keeps_a_request
from polaris_data.problems.reading import to_json_line
from polaris_data.problems.source import Source
from polaris_data.records import Problem

if TYPE_CHECKING:
    from polaris_reward import GradeMany

BATCH = 512
"""Problems that are graded together."""

LONG_PROMPT = "prompt too long"
"""Finding of a problem whose prompt has more tokens than it may."""

MAX_REFERENCE_CHARS = 200
"""A longer one is hardly ever an answer."""

_PROBED = "27182818284590452"
PROBE = rf"\boxed{{{_PROBED}}}"
"""An answer that is spelled like no reference: whoever rejects the reference then cannot read it."""

_PLAIN = re.compile(r"-?\d{1,18}(?:\.\d{1,18}|/\d{1,18})?|-?\\frac\{\d{1,18}\}\{\d{1,18}\}")
"""References that need no second look, which are most."""

_BRACES = re.compile(r"\\.|[{}]", re.DOTALL)
_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{([^{}]*)\}")
_TEXT = re.compile(r"\\(?:text|mathrm|textbf|mbox|mathbf)\s*\{([^{}]*)\}")
_SPACE_END = re.compile(r"(?:\\[,;:! ]|\s)+\Z")
_UNFINISHED_END = re.compile(r"(?:[=+\-/^_,({\[<>]|\\(?:d?frac|sqrt|left|cdot|times|le|ge)?)\Z")
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
class PromptLimit:
    """How long the prompt of a problem may be."""

    max_tokens: int
    """That pass."""

    count_tokens: Callable[[Problem], int]
    """Returns the length of a problem's prompt as the model sees it."""

    model: str
    """Whose tokenizer and chat template count."""

    suffix: str
    """Appended to every question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is wrong with a problem or one of its references, or looks wrong."""

    problem_id: str
    """Of the problem set."""

    finding: str
    """An outcome of the grader, what makes the reference suspicious, or `LONG_PROMPT`."""

    is_refused: bool
    """Whether the grader does not accept the reference, or the prompt is too long; else it is only suspicious."""

    reference: str
    """As it stands in the problem set; of a prompt its length."""


@dataclass(slots=True)
class CheckCounts:
    """What a check came to."""

    num_passed: int = 0
    """Problems whose references are all accepted."""

    num_references: int = 0
    num_refused: int = 0
    """References that the grader does not accept as their own answer."""

    findings: Counter[str] = field(default_factory=Counter[str])
    """References by what is wrong with them, or looks wrong."""


def check_problems(
    source: Source,
    out: Path | None = None,
    *,
    drop_suspicious: bool = False,
    prompts: PromptLimit | None = None,
    report: Callable[[Finding], object] = lambda _: None,
) -> CheckCounts:
    """Check every reference of a problem set, with the grader that training uses.

    Args:
        source: The set; read once.
        out: For the problems that pass; the findings go beside it, to `findings_path`. ``None`` writes nothing.
        drop_suspicious: Let a problem with a suspicious reference not pass either.
        prompts: Let a problem with a longer prompt not pass either.
        report: Called with each finding.

    Raises:
        OtherRunError: If the file belongs to a run with other settings.
        MissingExtraError: If polaris-reward is not installed.
    """
    with _needing_the_extra():
        from polaris_reward import boxed_grader
    settings = {
        "command": "polaris-data check",
        **source.fingerprint(),
        "drop_suspicious": drop_suspicious,
        "limit": source.limit,
        "skip_invalid": source.skip_invalid,
    }
    if prompts is not None:
        settings |= {"max_prompt_tokens": prompts.max_tokens, "model": prompts.model, "suffix": prompts.suffix}
    if out is not None:
        check_output(out, settings)
    counts = CheckCounts()

    def counted(checked: Iterable[tuple[Problem, list[Finding]]]) -> Iterator[tuple[Problem, list[Finding]]]:
        for problem, findings in checked:
            counts.num_references += len(problem.references)
            counts.num_refused += sum(one.is_refused for one in findings)
            if prompts is not None and (length := prompts.count_tokens(problem)) > prompts.max_tokens:
                found = f"{length} tokens"
                findings.append(
                    Finding(problem_id=problem.problem_id, finding=LONG_PROMPT, is_refused=True, reference=found)
                )
            counts.findings.update(one.finding for one in findings)
            counts.num_passed += passes(findings, drop_suspicious=drop_suspicious)
            for one in findings:
                report(one)
            yield problem, findings

    with boxed_grader() as grader:
        problems = track(source.iterate(), total=source.count(), label="checking")
        checked = counted(check_references(problems, grader.grade_many))
        if out is None:
            for _ in checked:
                pass
        else:
            with whole_text(out) as passing, whole_text(findings_path(out)) as findings:
                write_checked(checked, passing, findings, drop_suspicious=drop_suspicious)
                claim_output(out, settings)
    return counts


def passes(findings: Iterable[Finding], *, drop_suspicious: bool) -> bool:
    """Return whether a problem with these findings is kept."""
    return not any(one.is_refused or drop_suspicious for one in findings)


def suspicions(reference: str) -> list[str]:
    """Return what looks wrong with a reference; nothing for most.

    None of it is proof: "B" may be the name of a point, and "x = 1 or x = 2" one answer.
    """
    words = " ".join(_TEXT.sub(r" \1 ", reference).replace("$", " ").split())
    if not re.sub(r"\\[,;:! ]|[\s{}.]", "", words):
        return ["empty"]
    found: list[str] = []
    is_unfinished = _UNFINISHED_END.search(_SPACE_END.sub("", words)) or _EMPTY_ARGUMENT.search(reference)
    if is_unfinished or not _is_balanced(reference):
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


def look_at(problem: Problem) -> Iterator[Finding]:
    """Yield what looks wrong with a problem, without grading: what `suspicions` and the grader's reader say, and more.

    ``several words`` is a phrase rather than a value, ``a request in the question`` what is left there of a prompt.
    Where polaris-reward is not installed, nothing is said about ``spelling only``.
    """
    for reference in problem.references:
        if _PLAIN.fullmatch(reference):
            continue
        for suspicion in suspicions(reference):
            yield _found(problem, suspicion, reference)
        if "\n" in reference and "\\begin" not in reference:
            yield _found(problem, "several lines", reference)
        if num_words(reference) > 2:
            yield _found(problem, "several words", reference)
        elif unread := _unread(reference):
            yield _found(problem, unread, reference)
    if keeps_a_request(problem.question):
        yield _found(problem, "a request in the question", problem.references[0])


def check_references(problems: Iterable[Problem], grade_many: "GradeMany") -> Iterator[tuple[Problem, list[Finding]]]:
    """Yield each problem with what is wrong with its references, and what looks wrong.

    Args:
        problems: Any number; `BATCH` of them are graded together.
        grade_many: With the grading convention that training will use.

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
    checked: Iterable[tuple[Problem, list[Finding]]], out: TextIO, findings: TextIO, *, drop_suspicious: bool = False
) -> None:
    """Write the problems that pass to one file of JSON lines, and all findings to another.

    Args:
        checked: What `check_references` yields.
        out: For the problems whose references are all accepted.
        findings: For what is wrong or looks wrong, of all problems.
        drop_suspicious: Let a problem with a suspicious reference not pass either.
    """
    for problem, found in checked:
        findings.writelines(json.dumps(asdict(one), ensure_ascii=False) + "\n" for one in found)
        if passes(found, drop_suspicious=drop_suspicious):
            out.write(to_json_line(problem))


def findings_path(out: Path) -> Path:
    """Return where the findings are: ``NAME.findings.jsonl`` beside the problems."""
    return out.with_name(f"{out.name}.findings.jsonl")


@lru_cache(maxsize=65_536)
def _unread(reference: str) -> str | None:
    """Return what the grader cannot read in a reference: an answer at all, or a meaning beyond its spelling."""
    reader = _reader()
    return reader(reference) if reader else None


@lru_cache(maxsize=1)
def _reader() -> Callable[[str], str | None] | None:
    try:
        from polaris_reward import BOXED, Outcome
        from polaris_reward.equality import compare
        from polaris_reward.finding import reference_answer
    except ImportError:
        return None

    def unread(reference: str) -> str | None:
        answer = reference_answer(reference)
        if answer is None:
            return str(Outcome.REFERENCE_REJECTED)
        is_read = compare(_PROBED, answer, BOXED).outcome is not Outcome.REFERENCE_REJECTED
        return None if is_read else "spelling only"

    return unread


@contextmanager
def _needing_the_extra() -> Generator[None]:
    try:
        yield
    except ImportError as error:
        raise MissingExtraError(
            f"checking references needs polaris-reward: pip install 'polaris-data[profile]>=2026.11' ({error})"
        ) from error


def _check_batch(batch: Sequence[Problem], grade_many: "GradeMany") -> Iterator[Finding]:
    with _needing_the_extra():
        from polaris_reward import Outcome
        from polaris_reward.finding import reference_answer
    pairs = [(problem, text) for problem in batch for text in problem.references]
    own = grade_many([(rf"\boxed{{{reference_answer(text) or text}}}", [text]) for _, text in pairs])
    probed = grade_many([(PROBE, [text]) for _, text in pairs])
    for (problem, text), as_own, as_probe in zip(pairs, own, probed, strict=True):
        if as_own.outcome is not Outcome.CORRECT:
            yield _found(problem, as_own.outcome, text, is_refused=True)
        elif as_probe.outcome is Outcome.REFERENCE_REJECTED:
            yield _found(problem, "spelling only", text)
        for suspicion in suspicions(text):
            yield _found(problem, suspicion, text)
    others = [(problem, text) for problem in batch for text in problem.references[1:]]
    grades = grade_many(
        [(rf"\boxed{{{reference_answer(text) or text}}}", problem.references[:1]) for problem, text in others]
    )
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
