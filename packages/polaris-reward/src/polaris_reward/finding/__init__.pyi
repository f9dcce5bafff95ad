from .extract import reference_answer as reference_answer
