from .by_names import LIST_COLUMNS as LIST_COLUMNS
from .by_names import TEXT_COLUMNS as TEXT_COLUMNS
from .readers import READERS as READERS
from .readers import Reader as Reader
from .readers import to_sampled as to_sampled
from .sampled import Sampled as Sampled
from .sampled import to_completion as to_completion
