from .files import score_completions as score_completions
from .files import train_verifier as train_verifier
from .head import Head as Head
from .head import area_under_curve as area_under_curve
from .head import fit_head as fit_head
from .reports import Report as Report
from .reports import report_on as report_on
