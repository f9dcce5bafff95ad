from .work import SharedSampler as SharedSampler
from .work import WorkStore as WorkStore
from .work import fair_share as fair_share
from .work import longest_first as longest_first
