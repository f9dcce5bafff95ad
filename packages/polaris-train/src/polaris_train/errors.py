"""What a user of this package can get wrong."""


class TrainError(Exception):
    """Base of the errors below; the command line prints it as one sentence and exits with 2."""


class RecipeError(TrainError, ValueError):
    """A recipe, stage or override is wrong; all mistakes are reported at once."""


class RunFolderError(TrainError, ValueError):
    """A run folder lacks what a stage needs, or is in use."""


class WeightsError(TrainError, ValueError):
    """Servers hold another model than a stage trains, or weights that it did not give them."""


class AdapterError(TrainError, ValueError):
    """A folder holds adapters that cannot be put beside their model."""


class MergeError(TrainError, ValueError):
    """Two models cannot be averaged, because their weights or tokens do not mean the same."""


class ReleaseError(TrainError, ValueError):
    """A model cannot be released as asked: there is none, or a setting, scheme or repository makes no sense."""


class VerifierError(TrainError, ValueError):
    """Completions that a verifier cannot learn from or score, or a folder that holds none."""


class MemoryExhaustedError(TrainError, MemoryError):
    """A micro-batch did not fit into memory; the stage can be continued with smaller ones."""

    def __init__(self, *, max_tokens: int, longest: int) -> None:
        super().__init__(
            f"out of memory with micro-batches of at most {max_tokens} tokens; the longest answer with its prompt has "
            f"{longest}: use more GPUs, cpu_offload = true, a higher context_parallel, or a shorter context"
        )
        self.max_tokens = max_tokens
        """Tokens of a micro-batch that were allowed."""
        self.longest = longest
        """Tokens of the longest sequence of the step: less than that cannot be allowed."""


class OptimizerMemoryError(TrainError, MemoryError):
    """There is no room for the optimizer's state, which smaller micro-batches do not change."""

    def __init__(self, *, num_parameters: int) -> None:
        super().__init__(
            f"out of memory for the two moments of AdamW, 8 bytes for each of the {num_parameters:,} parameters that a "
            "rank trains, beside which its gradients need 4 more: use more GPUs, cpu_offload = true, or lora = {}"
        )


class CheckpointMemoryError(TrainError, MemoryError):
    """Memory ran out while a checkpoint was written; the stage can be continued with smaller micro-batches."""


class NodesError(TrainError, RuntimeError):
    """The nodes of a run cannot meet, or have lost each other."""


class LaunchError(TrainError, ValueError):
    """What is asked of a scheduler cannot be written or submitted."""


class DivergenceError(TrainError, ArithmeticError):
    """Loss or gradient was not finite too many steps in a row."""


class PlanError(TrainError, ValueError):
    """A recipe does not fit a machine, or what is asked for cannot be planned."""
