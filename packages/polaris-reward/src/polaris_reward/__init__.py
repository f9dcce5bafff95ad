"""A grader for mathematical answers that cannot hang."""

from polaris_reward.convention import BOXED, DEFAULT, POLARIS_V1, POLICIES, Policy
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
from polaris_reward.grader import MAX_FAILED_SHARE, Grader, check_failures, grade
from polaris_reward.records import Grade, Outcome
from polaris_reward.rows import to_references

__all__ = [
    "BOXED",
    "DEFAULT",
    "MAX_FAILED_SHARE",
    "POLARIS_V1",
    "POLICIES",
    "CircuitBreakerError",
    "Grade",
    "Grader",
    "GraderClosedError",
    "Outcome",
    "Policy",
    "ReferencesError",
    "RewardError",
    "RowsFileError",
    "SettingsError",
    "WorkerStartError",
    "check_failures",
    "final_answer",
    "grade",
    "to_references",
]
