from .comparison import Verdict as Verdict
from .comparison import compare as compare
from .equal import Equality as Equality
from .evaluator import Meaning as Meaning
from .evaluator import evaluate as evaluate
from .expressions import Undecided as Undecided
from .value import Undefined as Undefined
from .value import Value as Value
