"""A grader for mathematical answers that cannot hang."""

from polaris_reward.convention import BOXED, CONVENTIONS, DEFAULT, POLARIS_V1, POLICIES, Convention, Policy
from polaris_reward.errors import (
    CircuitBreakerError,
    GraderClosedError,
    ReferencesError,
    ResponseError,
    RewardError,
    RowsFileError,
    SettingsError,
    WorkerStartError,
)
from polaris_reward.finding.extract import final_answer
from polaris_reward.finding.prefilled import ThinkEvidence, prefilled_think
from polaris_reward.finding.references import to_references
from polaris_reward.grader import MAX_FAILED_SHARE, Grader, boxed_grader, check_failures, grade
from polaris_reward.messages import response_text, thoughts_apart
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
    "ResponseError",
    "RewardError",
    "RowsFileError",
    "SettingsError",
    "ThinkEvidence",
    "WorkerStartError",
    "__version__",
    "boxed_grader",
    "check_failures",
    "final_answer",
    "grade",
    "prefilled_think",
    "response_text",
    "thoughts_apart",
    "to_references",
]

__version__: str


def __getattr__(name: str) -> str:
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # Looked up when it is asked for: importing what reads it would take as long as all of this package.
    from importlib.metadata import version

    return version("polaris-reward")
