from .conversation import Conversations as Conversations
from .conversation import Learned as Learned
from .conversation import UnusableTraceError as UnusableTraceError
from .preparing import prepare_sft as prepare_sft
from .sequences import Traces as Traces
from .sequences import with_equal_weights as with_equal_weights
from .sequences import write_sequences as write_sequences
