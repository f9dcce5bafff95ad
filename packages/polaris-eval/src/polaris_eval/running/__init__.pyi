from .job import Job as Job
from .job import plan_jobs as plan_jobs
from .protocol import run_settings as run_settings
from .queue import count_missing as count_missing
from .queue import finish as finish
from .queue import sample_missing as sample_missing
from .run import CONVENTION as CONVENTION
from .run import score_jobs as score_jobs
