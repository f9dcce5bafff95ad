"""Whether an error says that memory ran out, whoever says it; and giving back what is free."""

import ctypes
import errno
import gc

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
    "can't start new thread",  # Python's, where the system has no room for the thread's stack
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an allocation failed, on a GPU or on the host, in torch, a library below it, or Python."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and any(text in str(error) for text in _TEXTS)


def give_back_memory() -> None:
    """Give what is free to the GPU and to the system: a broken-off attempt leaves a process near what it may have."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):  # glibc's; other C libraries have none
        trim(0)
