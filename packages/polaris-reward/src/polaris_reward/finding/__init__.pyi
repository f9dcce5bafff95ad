from .boxes import Extracted as Extracted
from .boxes import last_box as last_box
from .extract import final_answer as final_answer
from .extract import find_answer as find_answer
from .prefilled import ThinkEvidence as ThinkEvidence
from .prefilled import prefilled_think as prefilled_think
from .references import reference_answer as reference_answer
from .references import to_references as to_references
