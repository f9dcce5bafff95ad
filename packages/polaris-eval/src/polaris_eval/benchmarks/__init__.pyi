from .loading import content_checksum as content_checksum
from .loading import load_benchmark as load_benchmark
from .loading import local_copy as local_copy
from .published import PUBLISHED as PUBLISHED
from .registry import BENCHMARKS as BENCHMARKS
from .registry import Benchmark as Benchmark
from .registry import find_benchmark as find_benchmark
