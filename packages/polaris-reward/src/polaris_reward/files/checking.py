"""Check that references can be graded: each, put into a box, must be accepted as its own answer."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Literal, TextIO

from polaris_reward.files.lines import Row, RowsFile
from polaris_reward.finding.references import reference_answer
from polaris_reward.grader import Grader
from polaris_reward.records import GradeMany, Outcome

PROBE = r"\boxed{27182818284590452}"
"""An answer that is spelled like no reference: whoever rejects the reference then cannot read it."""

Finding = Outcome | Literal["accepted", "spelling_only"]
"""Accepted as its own answer, though maybe without a meaning that the grader can read, or what became of it."""


def check_file(problems: RowsFile, listing: TextIO, grader: Grader) -> Counter[Finding]:
    """Check every reference of a file, and list those that are not accepted, or only by their spelling.

    Args:
        problems: Rows as `polaris_reward.files.lines.Row.references` reads them.
        listing: Receives a line for each: where it is, id, `Finding`, reference, with tabs between them.
        grader: One without a circuit breaker, which would end the file in the middle.

    Returns:
        How many references there were of each finding.

    Raises:
        RowsFileError: If the file cannot be read, or a row cannot be read and the file is strict.
    """
    counts: Counter[Finding] = Counter()
    for batch in problems.batches(Row.references):
        pairs = [(row, reference) for row, references in batch for reference in references]
        findings = check_references([reference for _, reference in pairs], grader.grade_many)
        for (row, reference), finding in zip(pairs, findings, strict=True):
            counts[finding] += 1
            if finding != "accepted":
                print(row.where, row.name, finding, json.dumps(reference), sep="\t", file=listing)
    return counts


def check_references(references: Sequence[str], grade_many: GradeMany) -> list[Finding]:
    """Say of each reference whether it is accepted as its own answer."""
    own = grade_many([(rf"\boxed{{{reference_answer(text) or text}}}", [text]) for text in references])
    probed = grade_many([(PROBE, [text]) for text in references])
    return [_finding(as_own.outcome, as_probe.outcome) for as_own, as_probe in zip(own, probed, strict=True)]


def _finding(as_own: Outcome, as_probe: Outcome) -> Finding:
    if as_own is not Outcome.CORRECT:
        return as_own
    return "spelling_only" if as_probe is Outcome.REFERENCE_REJECTED else "accepted"
