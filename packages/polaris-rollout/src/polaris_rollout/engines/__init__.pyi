from .opening import check_model as check_model
from .opening import open_engine as open_engine
from .parity import Reference as Reference
from .parity import check_parity as check_parity
from .parity import transformers_logprobs as transformers_logprobs
from .sampling import sample_file as sample_file
from .vllm import VllmSampler as VllmSampler
from .watchdog import watch as watch
