"""Tables of anyone's: which files they are, what their columns mean, their rows as conversations."""

from speechrows.corpora.tables.columns import USUAL
from speechrows.corpora.tables.columns import Columns
from speechrows.corpora.tables.dialogues import DialogueMaker
from speechrows.corpora.tables.gather import Gathering
from speechrows.corpora.tables.listing import Choice
from speechrows.corpora.tables.listing import list_tables
from speechrows.corpora.tables.names import ClipNames
from speechrows.corpora.tables.roles import RoleRule
from speechrows.corpora.tables.survey import Run
from speechrows.corpora.two_folders import clips_folder
from speechrows.corpora.two_folders import with_clips

__all__ = [
    "USUAL",
    "Choice",
    "ClipNames",
    "Columns",
    "DialogueMaker",
    "Gathering",
    "RoleRule",
    "Run",
    "clips_folder",
    "list_tables",
    "with_clips",
]
