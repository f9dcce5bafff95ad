from .packing import MicroBatch as MicroBatch
from .packing import TrainingSequence as TrainingSequence
from .packing import pack as pack
from .packing import partition as partition
from .policy import Policy as Policy
from .policy import load_policy as load_policy
