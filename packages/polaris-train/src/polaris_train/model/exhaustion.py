"""Whether an error says that memory ran out, whoever says it."""

import errno

import torch

_TEXTS = (
    "can't allocate memory",  # torch's allocator of the host
    "not enough memory: you tried to allocate",  # the same, elsewhere
    "out of memory",  # CUDA's own calls, as torch passes them on, and NCCL's: Cuda failure 2 'out of memory'
    "CUBLAS_STATUS_ALLOC_FAILED",
    "CUDNN_STATUS_ALLOC_FAILED",
    "Failed to CUDA calloc",  # NCCL's buffers
    "Failed to CUDA malloc",
    "Cannot allocate memory",  # NCCL's and gloo's shared memory: the system's word
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an allocation failed, on a GPU or on the host, in torch, a library below it, or Python."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _TEXTS)
