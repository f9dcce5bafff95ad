from .export import export_checkpoint as export_checkpoint
from .launch import prepare_stage as prepare_stage
from .launch import run_stage as run_stage
from .launch import torchrun_line as torchrun_line
from .replay import describe_replay as describe_replay
from .replay import replay_step as replay_step
from .rollouts import Rollout as Rollout
from .rollouts import Rollouts as Rollouts
