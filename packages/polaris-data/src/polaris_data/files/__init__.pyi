from .journal import append_records as append_records
from .journal import claim as claim
from .journal import write_json as write_json
from .journal import write_text as write_text
from .lock import locked_output as locked_output
from .progress import track as track
