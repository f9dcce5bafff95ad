"""Grade and score files of completions from elsewhere."""

import hashlib
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

from polaris_data import Problem, content_hash
from polaris_data.completions import write_set_aside
from polaris_data.files import claim, track, write_text
from polaris_reward import BOXED, Convention, GradeMany, Grader, ThinkEvidence
from polaris_rollout import local_folder, prefilled_think, render_prompt, resolve_model

from polaris_eval.benchmarks.loading import load_benchmark
from polaris_eval.errors import CompletionsFileError, SettingError
from polaris_eval.records import Evaluation
from polaris_eval.running.formats import Completions, read_completions
from polaris_eval.scores.equivalence import vote_classes
from polaris_eval.scores.files import write_scores
from polaris_eval.scores.summary import summarize

logger = logging.getLogger(__name__)

CountTokens = Callable[[str], int]
"""Says how long a text is."""

SET_ASIDE = "set-aside.jsonl"
"""Beside the completions: what could not be graded, each with its place and reason."""

_MANY_SILENT = 0.5
"""Share of completions without an answer at which the rule for finding answers is suspect."""


def grade_file(
    *files: Path,
    name: str,
    model: str,
    out: Path,
    convention: Convention = BOXED,
    tokenizer: str | None = None,
    benchmark: str | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
    scores: Path | None = None,
) -> Evaluation:
    """Grade and score one or several files of completions.

    Writes ``out/NAME/completions.jsonl``, its settings, ``out/NAME/set-aside.jsonl`` with what cannot be graded, if
    there is anything, and ``out/scores.json``.

    Args:
        files: As `polaris_eval.running.formats.read_completions` takes them.
        name: Of the benchmark, fit for a folder.
        model: Who wrote the completions.
        out: Folder to write.
        convention: What the grader takes for an answer.
        tokenizer: Folder or Hub id of a model, to count tokens where the files do not, and to know whether its chat
            template ends with an opening think tag; see `polaris_reward.ThinkEvidence`.
        benchmark: Name or file of the problems, as `polaris_eval.benchmarks.load_benchmark` takes it: their accepted
            answers count, in the place of what the files say.
        where: Columns and the values that a row must have one of.
        scores: What another model thinks of the completions, to choose by: see `with_scores`.

    Raises:
        CompletionsFileError: If there is no such file, or none of them can be used.
        SettingError: If the name is not fit for a folder, or ``out`` is a file.
        BenchmarkError: If there is no such benchmark.
        OtherRunError: If the folder belongs to another run; nothing is overwritten.
        UnscorableError: If no problem has a reference that the grader can read.
    """
    for file in (*files, *([scores] if scores else [])):
        if not file.is_file():
            hint = f"give its files: {file}/*" if file.is_dir() else "give a file of completions"
            raise CompletionsFileError(f"no file {str(file)!r}; {hint}")
    if name in ("", ".", "..") or "/" in name:
        raise SettingError(f"--name is {name!r}; give a name fit for a folder")
    if out.exists() and not out.is_dir():
        raise SettingError(f"--out is {str(out)!r}, which is a file; give a folder")
    problems = load_benchmark(benchmark)[1] if benchmark is not None else None
    settings = grade_file_settings(
        *files, name=name, convention=convention, tokenizer=tokenizer, problems=problems, where=where, scores=scores
    )
    count_tokens, template = _open_tokenizer(tokenizer) if tokenizer else (None, "")
    joined = None if benchmark is None or problems is None else (benchmark, problems)
    read = read_completions(*files, benchmark=joined, where=where)
    groups = read.groups
    if joined is not None or not all(_was_graded_with(convention, file) for file in files):
        groups = _without_budgets(groups, name=name)
    groups = _after_opened_thought(groups, template=template, name=name)
    if scores:
        groups = with_scores(groups, scores)
    with Grader(convention=convention, max_failed_share=None) as grader:
        records = grade_groups(groups, grader.grade_many, count_tokens=count_tokens)
    return score_graded(name, records, settings=settings, model=model, out=out, read=read)


def with_scores(groups: Sequence[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """Put scores beside completions.

    Args:
        groups: As `polaris_eval.running.formats.read_completions` returns them.
        path: JSON lines with ``problem_id`` and ``scores``: a number for each completion of the problem, in the order
            of the completions, the larger the better.

    Raises:
        CompletionsFileError: If a line is something else, or a problem has no scores or another number of them.
    """
    known: dict[str, list[float]] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        row = _json_object(line)
        values = row.get("scores")
        if (
            not isinstance(values, list)
            or not all(map(_is_finite, cast("list[Any]", values)))
            or "problem_id" not in row
        ):
            raise CompletionsFileError(
                f"{path}:{number}: no 'problem_id' with 'scores', a list of numbers; write a line such as "
                '{"problem_id": "aime24-01", "scores": [0.9, 0.2]}'
            )
        known[str(row["problem_id"])] = cast("list[float]", values)
    for group in groups:
        found, wanted = len(known.get(group["problem_id"], ())), len(group["completions"])
        if found != wanted:
            raise CompletionsFileError(
                f"{path}: {found} scores for problem {group['problem_id']!r}, which has {wanted} completions; give "
                "one for each, in their order"
            )
    return [
        group
        | {
            "completions": [
                {**each, "score": score}
                for each, score in zip(group["completions"], known[group["problem_id"]], strict=True)
            ]
        }
        for group in groups
    ]


def grade_groups(
    groups: Sequence[dict[str, Any]], grade_many: GradeMany, *, count_tokens: CountTokens | None = None
) -> list[dict[str, Any]]:
    """Grade the groups that `polaris_eval.running.formats.read_completions` returns, and number equivalent answers.

    Args:
        groups: Left as they are.
        grade_many: Grades the completions of a group.
        count_tokens: Says how long a text is where its file does not; ``None`` leaves that unknown.

    Returns:
        Lines of ``completions.jsonl``.
    """
    return [
        {**group, "completions": _grade(group, grade_many, count_tokens)}
        for group in track(groups, total=len(groups), label="grading")
    ]


def grade_file_settings(
    *files: Path,
    name: str,
    convention: Convention,
    tokenizer: str | None,
    problems: Sequence[Problem] | None = None,
    where: Mapping[str, Sequence[str]] | None = None,
    scores: Path | None = None,
) -> dict[str, Any]:
    """Return what the scores of graded files depend on, fit for JSON.

    Raises:
        CompletionsFileError: If two files are the same.
    """
    digests: dict[str, Path] = {}
    for path in files:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if (earlier := digests.setdefault(digest, path)) is not path:
            raise CompletionsFileError(f"{path} has the same content as {earlier}; give every file once")
    whole = next(iter(digests)) if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return {
        "command": "polaris-eval grade",
        "benchmark": name,
        "completions_sha256": whole,
        "tokenizer": tokenizer,
        **({} if problems is None else {"problems": content_hash(problems)}),
        **({} if not where else {"where": {column: list(values) for column, values in where.items()}}),
        **({} if scores is None else {"scores_sha256": hashlib.sha256(scores.read_bytes()).hexdigest()}),
        "grader": asdict(convention) | {"polaris-reward": version("polaris-reward")},
    }


def score_graded(
    name: str,
    records: Sequence[dict[str, Any]],
    *,
    settings: dict[str, Any],
    model: str,
    out: Path,
    read: Completions | None = None,
) -> Evaluation:
    """Score graded groups, and write ``out/NAME/completions.jsonl``, its settings, and ``out/scores.json``.

    What was set aside when they were read is counted in the scores and written to ``out/NAME/set-aside.jsonl``.

    Raises:
        OtherRunError: If the folder belongs to another run; nothing is overwritten.
        UnscorableError: If no problem has a reference that the grader can read.
    """
    evaluation = summarize(name, records)
    if read is not None:
        reasons = Counter(each.reason for each in read.set_aside)
        evaluation = replace(evaluation, set_aside=dict(reasons.most_common()), lost=tuple(read.lost))
    if evaluation.score("no_answer").value > _MANY_SILENT:
        logger.warning("%s: most completions have no answer in a box; --policy default looks for others", name)
    claim(out / name / "settings.json", settings)
    lines = (json.dumps(record, ensure_ascii=False) + "\n" for record in records)
    write_text(out / name / "completions.jsonl", lines)
    if read is not None and read.set_aside:
        write_set_aside(out / name / SET_ASIDE, read.set_aside)
    protocol = {"source": settings["command"], "grader": settings["grader"]}
    write_scores(out, [evaluation], model=model, protocol=protocol)
    return evaluation


def _was_graded_with(convention: Convention, file: Path) -> bool:
    """Return whether the grades beside a file's completions are of this convention and this version of the grader."""
    path = file.parent / "settings.json"
    try:
        recorded = json.loads(path.read_text(encoding="utf-8")).get("grader") or {}
    except (OSError, ValueError, AttributeError):
        return False
    rules = json.loads(json.dumps(asdict(convention)))
    versions = {str(value).removeprefix("polaris-reward ") for key, value in recorded.items() if key not in rules}
    return {key: recorded.get(key) for key in rules} == rules and versions == {version("polaris-reward")}


def _without_budgets(groups: Sequence[dict[str, Any]], *, name: str) -> list[dict[str, Any]]:
    """Take off grades at token budgets that are not known to be of this grader; the cut texts are not in the file."""
    num_graded = sum("budgets" in each and bool(each["budgets"]) for group in groups for each in group["completions"])
    if num_graded:
        logger.warning(
            "%s: grades of %d completions at token budgets are left out: they are of another grader, or nobody knows "
            "of which; repeat the run to have them",
            name,
            num_graded,
        )
    return [
        group | {"completions": [{k: v for k, v in each.items() if k != "budgets"} for each in group["completions"]]}
        for group in groups
    ]


def _open_tokenizer(model: str) -> tuple[CountTokens, str]:
    """Return what counts tokens, and the opening think tag that the chat template ends with."""
    from transformers import AutoTokenizer

    tokenizer: Any = AutoTokenizer.from_pretrained(local_folder(resolve_model(model)))
    template = prefilled_think(render_prompt(tokenizer, "1 + 1 = ?"))
    return lambda text: len(tokenizer.encode(text, add_special_tokens=False)), template


def _after_opened_thought(groups: Sequence[dict[str, Any]], *, template: str, name: str) -> list[dict[str, Any]]:
    """Note at each completion of which nothing else is known the think tag that the chat template opened before it."""
    evidence = ThinkEvidence()
    for each in (each for group in groups for each in group["completions"] if "prefilled" not in each):
        evidence.add(each["text"], each["finish_reason"])
    tag = evidence.opening_tag(template)
    if not tag:
        return list(groups)
    if evidence.num_unclosed:
        logger.warning(
            "%s: %d of %d "
            "completions never close the %s that the chat template opened: they were cut in thought and have no answer",
            name,
            evidence.num_unclosed,
            evidence.num_responses,
            tag.strip(),
        )
    return [
        {**group, "completions": [{**each, "prefilled": each.get("prefilled", tag)} for each in group["completions"]]}
        for group in groups
    ]


def _grade(group: dict[str, Any], grade_many: GradeMany, count_tokens: CountTokens | None) -> list[dict[str, Any]]:
    completions = group["completions"]
    grades = grade_many([(each.get("prefilled", "") + each["text"], group["references"]) for each in completions])
    graded = [
        {
            **completion,
            "num_tokens": _num_tokens(completion, count_tokens),
            "outcome": grade.outcome.value,
            "answer": grade.answer,
        }
        for completion, grade in zip(completions, grades, strict=True)
    ]
    (classes,) = vote_classes([graded], grade_many)
    return [{**completion, "vote": vote} for completion, vote in zip(graded, classes, strict=True)]


def _json_object(line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except ValueError:
        return {}
    return cast("dict[str, Any]", row) if isinstance(row, dict) else {}


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _num_tokens(completion: dict[str, Any], count_tokens: CountTokens | None) -> int | None:
    if completion["num_tokens"] is None and count_tokens is not None:
        return count_tokens(completion["text"])
    return completion["num_tokens"]
