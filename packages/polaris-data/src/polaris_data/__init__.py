"""Problems for reinforcement learning: reading them, how hard they are for a model, which of them to keep.

Profiling is in `polaris_data.profile`, imported on its own because it needs the extra ``profile``.
"""

from polaris_data.difficulty import read_profile
from polaris_data.errors import DataError, MissingExtraError, OtherRunError, ProblemFileError, SettingError
from polaris_data.journal import Journal
from polaris_data.problems import content_hash, read_problems, write_problems
from polaris_data.prompt import PROMPT_SUFFIX, to_prompt
from polaris_data.records import Difficulty, Problem, Visit
from polaris_data.select import Decision, count_reasons, select, write_selection
from polaris_data.shape import Histogram, Shape, histogram
from polaris_data.synthetic import synthetic_problems

__all__ = [
    "PROMPT_SUFFIX",
    "DataError",
    "Decision",
    "Difficulty",
    "Histogram",
    "Journal",
    "MissingExtraError",
    "OtherRunError",
    "Problem",
    "ProblemFileError",
    "SettingError",
    "Shape",
    "Visit",
    "content_hash",
    "count_reasons",
    "histogram",
    "read_problems",
    "read_profile",
    "select",
    "synthetic_problems",
    "to_prompt",
    "write_problems",
    "write_selection",
]
