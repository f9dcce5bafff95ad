from .page import svg_part as svg_part
from .page import table_part as table_part
from .page import text_part as text_part
from .page import warning_part as warning_part
from .page import write_page as write_page
