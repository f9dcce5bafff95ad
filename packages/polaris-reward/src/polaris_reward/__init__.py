"""A grader for mathematical answers that cannot hang."""

from polaris_reward.convention import BOXED, CONVENTIONS, DEFAULT, POLARIS_V1, POLICIES, Convention, Policy
from polaris_reward.errors import (
    CircuitBreakerError,
    GraderClosedError,
    ReferencesError,
    RewardError,
    RowsFileError,
    SettingsError,
    WorkerStartError,
)
from polaris_reward.finding.extract import final_answer
from polaris_reward.finding.references import to_references
from polaris_reward.grader import MAX_FAILED_SHARE, Grader, boxed_grader, check_failures, grade
from polaris_reward.records import Grade, GradeMany, Outcome

__all__ = [
    "BOXED",
    "CONVENTIONS",
    "DEFAULT",
    "MAX_FAILED_SHARE",
    "POLARIS_V1",
    "POLICIES",
    "CircuitBreakerError",
    "Convention",
    "Grade",
    "GradeMany",
    "Grader",
    "GraderClosedError",
    "Outcome",
    "Policy",
    "ReferencesError",
    "RewardError",
    "RowsFileError",
    "SettingsError",
    "WorkerStartError",
    "boxed_grader",
    "check_failures",
    "final_answer",
    "grade",
    "to_references",
]
