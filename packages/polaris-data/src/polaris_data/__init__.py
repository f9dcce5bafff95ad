"""Problems for reinforcement learning: reading them, how hard they are for a model, which of them to keep.

Profiling is in `polaris_data.profile.sampling`, imported on its own because it needs the extra ``profile``.
"""

from polaris_data.errors import DataError, MissingExtraError, OtherRunError, ProblemFileError, SettingError
from polaris_data.files.journal import Journal
from polaris_data.problems.reading import content_hash, iterate_problems, read_problems, write_problems
from polaris_data.problems.synthetic import synthetic_problems
from polaris_data.profile.attempts import Attempt
from polaris_data.profile.files import read_profile
from polaris_data.profile.shape import Histogram, Shape, histogram
from polaris_data.records import HINT, PROMPT_SUFFIX, Difficulty, Problem, Visit, to_prompt
from polaris_data.selection.decisions import Decision, count_reasons, select, select_by_visits, write_selection
from polaris_data.selection.reading import parse_rule
from polaris_data.selection.rules import Accuracy, Cap, Extreme, Reshape, Rule
from polaris_data.selection.visits import VisitLog, read_visits

__all__ = [
    "HINT",
    "PROMPT_SUFFIX",
    "Accuracy",
    "Attempt",
    "Cap",
    "DataError",
    "Decision",
    "Difficulty",
    "Extreme",
    "Histogram",
    "Journal",
    "MissingExtraError",
    "OtherRunError",
    "Problem",
    "ProblemFileError",
    "Reshape",
    "Rule",
    "SettingError",
    "Shape",
    "Visit",
    "VisitLog",
    "content_hash",
    "count_reasons",
    "histogram",
    "iterate_problems",
    "parse_rule",
    "read_problems",
    "read_profile",
    "read_visits",
    "select",
    "select_by_visits",
    "synthetic_problems",
    "to_prompt",
    "write_problems",
    "write_selection",
]
