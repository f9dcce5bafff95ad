from .export import export_checkpoint as export_checkpoint
from .launch import prepare_stage as prepare_stage
from .launch import run_stage as run_stage
from .launch import torchrun_line as torchrun_line
from .rollouts import Rollout as Rollout
from .rollouts import Rollouts as Rollouts
