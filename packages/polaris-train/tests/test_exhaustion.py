"""That memory ran out is recognised, in the words of whoever says it, and nothing else is taken for it."""

import mmap

import pytest
import torch
import torch.distributed as dist
from polaris_train.model.exhaustion import is_out_of_memory

EXHAUSTED = [
    torch.OutOfMemoryError(
        "CUDA out of memory. Tried to allocate 9.26 GiB. GPU 0 has a total capacity of 79.10 GiB of which 5.06 GiB is "
        "free."
    ),
    torch.AcceleratorError("CUDA error: out of memory\nCUDA kernel errors might be asynchronously reported", 2),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"),
    dist.DistBackendError(
        "NCCL error in: ../torch/csrc/distributed/c10d/NCCLUtils.hpp:317, unhandled cuda error (run with NCCL_DEBUG="
        "INFO for details), NCCL version 2.21.5\nncclUnhandledCudaError: Call to CUDA function failed.\nLast error:\n"
        "Cuda failure 2 'out of memory'"
    ),
    dist.DistBackendError(
        "NCCL error in: ../torch/csrc/distributed/c10d/ProcessGroupNCCL.cpp:1296, unhandled cuda error, NCCL version "
        "2.18.1\nLast error:\nFailed to CUDA calloc 6291456 bytes"
    ),
    RuntimeError("can't start new thread"),
]

OTHER = [
    torch.AcceleratorError("CUDA error: an illegal memory access was encountered", 700),
    RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx`"),
    dist.DistBackendError("NCCL error in: ProcessGroupNCCL.cpp:1296, internal error, NCCL version 2.18.1"),
    FileNotFoundError(2, "No such file or directory", "memory"),
    ValueError("out of memory"),
]


@pytest.mark.parametrize("error", EXHAUSTED, ids=lambda error: str(error).splitlines()[-1][:40])
def test_what_libraries_say_when_memory_ran_out_is_recognised(error):
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "allocate",
    [lambda: torch.empty(2**50), lambda: bytearray(2**62), lambda: mmap.mmap(-1, 2**46)],
    ids=["torch", "Python", "the system"],
)
def test_an_allocation_that_fails_here_is_recognised(allocate):
    with pytest.raises((RuntimeError, MemoryError, OSError)) as failed:
        allocate()
    assert is_out_of_memory(failed.value)


@pytest.mark.parametrize("error", OTHER, ids=lambda error: str(error)[:40])
def test_another_error_is_not_taken_for_a_lack_of_memory(error):
    assert not is_out_of_memory(error)
