from .main import app as app
from .options import engine_options as engine_options
