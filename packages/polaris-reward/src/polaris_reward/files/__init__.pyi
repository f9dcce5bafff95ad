from .checking import check_file as check_file
from .checking import check_references as check_references
from .grading import GradedFile as GradedFile
from .grading import grade_file as grade_file
from .lines import Row as Row
from .lines import RowsFile as RowsFile
