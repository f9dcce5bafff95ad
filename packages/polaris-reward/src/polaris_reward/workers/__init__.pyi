from .pool import Judgement as Judgement
from .pool import WorkerPool as WorkerPool
