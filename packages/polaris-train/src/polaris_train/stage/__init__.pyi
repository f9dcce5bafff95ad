from .launch import prepare_stage as prepare_stage
from .launch import run_stage as run_stage
