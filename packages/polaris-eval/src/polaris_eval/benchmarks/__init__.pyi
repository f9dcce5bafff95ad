from .registry import content_checksum as content_checksum
from .registry import find_benchmark as find_benchmark
