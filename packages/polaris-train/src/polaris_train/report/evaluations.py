"""The evaluations of a run: the first model against the last, and with YaRN, with paired differences."""

from collections.abc import Mapping

from polaris_eval import Estimate, MixedProblemsError
from polaris_eval.report import comparison_rows, summary_rows
from polaris_eval.running import protocol_hash
from polaris_eval.scores import Comparison, Scores, compare_scores, differences_to_know

from polaris_train.report.document import Missing, Part, Pictures, Table, Text, Warning
from polaris_train.report.evidence import EVALUATIONS, RunEvidence
from polaris_train.report.pictures import draw_estimates

_PAIRS = (("start", "final"), ("start", "yarn"), ("final", "yarn"))


def evaluation_parts(run: RunEvidence) -> list[Part]:
    """Return values with intervals, paired differences, and what is not there yet."""
    parts: list[Part] = []
    found = run.evaluations
    if found:
        header = ["benchmark", "model", *summary_rows([])[0][1:]]
        rows = [
            [row[0], EVALUATIONS[name], *row[1:]]
            for name, scores in found.items()
            for row in summary_rows(scores.evaluations)[1:]
        ]
        rows.sort(key=lambda row: row[0])
        caption = "Shares in percent; intervals are 95%, clustered by problem"
        parts.append(Table(header, rows, caption, words=("model",)))
    differences: dict[tuple[str, str, str], list[Comparison]] = {}
    notes: list[Part] = []
    for before, after in _PAIRS:
        if before in found and after in found:
            name = f"{EVALUATIONS[after]} − {EVALUATIONS[before]}"
            try:
                compared = compare_scores(found[before], found[after])
            except MixedProblemsError as error:
                notes.append(Warning(f"{name}: {error}"))
                continue
            differences[name, EVALUATIONS[before], EVALUATIONS[after]] = compared
            notes += protocol_notes(name, found[before], found[after])
    parts += [*difference_parts(differences), *notes]
    if found:
        parts.insert(1, Pictures([_picture(found), *difference_pictures(differences)]))
    parts += [
        Missing(f"The evaluation of the {words} is not there yet.")
        for name, words in EVALUATIONS.items()
        if name not in found and (name != "yarn" or _wants_yarn(run))
    ]
    return parts


def difference_parts(differences: Mapping[tuple[str, str, str], list[Comparison]]) -> list[Part]:
    """Return a table for each comparison, by its name and those of both sides."""
    return [
        Table(
            ("benchmark", "problems", before, after, "difference", "sign is right"), rows, f"{name}, paired by problem"
        )
        for (name, before, after), comparisons in differences.items()
        for _, *rows in [comparison_rows(comparisons)]
    ]


def difference_pictures(differences: Mapping[tuple[str, str, str], list[Comparison]]) -> list[str]:
    """Return a picture of the named comparisons, none without any."""
    rows: dict[str, dict[str, Estimate]] = {}
    for (name, _, _), comparisons in differences.items():
        for each in comparisons:
            rows.setdefault(each.benchmark, {})[name] = each.difference
    return [draw_estimates("Paired difference, points, with 95% interval", rows, zero=True)] if rows else []


def protocol_notes(name: str, before: Scores, after: Scores) -> list[Part]:
    """Say what else differs between two evaluations, or that nothing does."""
    notes: list[Part] = [Warning(f"{name}: {note}") for note in differences_to_know(before, after)]
    return notes or [Text(f"{name}: measured in the same way, but for the model.")]


def protocol_hashes(run: RunEvidence) -> list[str]:
    """Return the fingerprint of each evaluation's protocol."""
    return [
        f"{EVALUATIONS[name]} {protocol_hash(scores.protocol)}"
        for name, scores in run.evaluations.items()
        if scores.protocol
    ]


def _wants_yarn(run: RunEvidence) -> bool:
    return run.recipe is not None and run.recipe.uses_yarn


def _picture(found: Mapping[str, Scores]) -> str:
    rows: dict[str, dict[str, Estimate]] = {}
    for name, scores in found.items():
        for each in scores.evaluations:
            score = each.score("mean@k")
            estimate = Estimate(value=score.value, interval=score.interval)
            rows.setdefault(f"{each.benchmark}\nmean@{score.k}", {})[EVALUATIONS[name]] = estimate
    return draw_estimates("Correct, percent, with 95% interval", rows)
