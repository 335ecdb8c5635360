"""What an author of a corpus writes with: one import. docs/adding-a-corpus.md explains each name.

datasets 3.6 scans the imports of a loading script, one a line: `from speechrows.builder import Corpus`.
"""

from speechrows import codec
from speechrows.builder.builder import SpeechBuilder
from speechrows.builder.builder import load_builder
from speechrows.builder.config import SpeechConfig
from speechrows.builder.dataset import build_dataset
from speechrows.builder.own_data import OwnDataConfig
from speechrows.card.prose import About
from speechrows.corpora import chats
from speechrows.corpora import columnar
from speechrows.corpora import cuts
from speechrows.corpora import json_stream
from speechrows.corpora import nemo
from speechrows.corpora import parquet
from speechrows.corpora import tables
from speechrows.corpora import tar_join
from speechrows.corpora import tar_lines
from speechrows.corpora import text_index
from speechrows.corpora import traits
from speechrows.corpora import tsv
from speechrows.corpora import turns
from speechrows.corpora import unpacked_clips
from speechrows.corpora.columnar import Column
from speechrows.corpora.columnar import Source
from speechrows.corpora.columnar import SourceFile
from speechrows.corpora.entries import Entry
from speechrows.corpora.entries import basename
from speechrows.corpora.entries import folder_of
from speechrows.corpora.folder import Corpus
from speechrows.corpora.reader import Listing
from speechrows.corpora.reader import Reader
from speechrows.corpora.reader import Unit
from speechrows.corpora.turn_tables import TurnTables
from speechrows.corpora.utterances import read_utterances
from speechrows.errors import BadClipError
from speechrows.errors import UsageError
from speechrows.flags import flag
from speechrows.rows.curriculum import DIALOGUE_CONFIGS
from speechrows.rows.tasks import CORRESPOND
from speechrows.rows.tasks import NUM_UNITS
from speechrows.rows.tasks import SIFT
from speechrows.sidecar.columns import how_to_make
from speechrows.sidecar.columns import satisfies
from speechrows.types import AudioRef
from speechrows.types import Codes
from speechrows.types import Dialogue
from speechrows.types import Fault
from speechrows.types import Int16
from speechrows.types import Reason
from speechrows.types import Role
from speechrows.types import Rule
from speechrows.types import Task
from speechrows.types import Traits
from speechrows.types import Turn
from speechrows.types import UnreadableFile

__all__ = [
    "CORRESPOND",
    "DIALOGUE_CONFIGS",
    "NUM_UNITS",
    "SIFT",
    "About",
    "AudioRef",
    "BadClipError",
    "Codes",
    "Column",
    "Corpus",
    "Dialogue",
    "Entry",
    "Fault",
    "Int16",
    "Listing",
    "OwnDataConfig",
    "Reader",
    "Reason",
    "Role",
    "Rule",
    "Source",
    "SourceFile",
    "SpeechBuilder",
    "SpeechConfig",
    "Task",
    "Traits",
    "Turn",
    "TurnTables",
    "Unit",
    "UnreadableFile",
    "UsageError",
    "basename",
    "build_dataset",
    "chats",
    "codec",
    "columnar",
    "cuts",
    "flag",
    "folder_of",
    "how_to_make",
    "json_stream",
    "load_builder",
    "nemo",
    "parquet",
    "read_utterances",
    "satisfies",
    "tables",
    "tar_join",
    "tar_lines",
    "text_index",
    "traits",
    "tsv",
    "turns",
    "unpacked_clips",
]
