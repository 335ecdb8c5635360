"""NeMo manifests, of utterances and of conversations, as dialogues."""

from speechrows.corpora.nemo.dialogues import conversation
from speechrows.corpora.nemo.dialogues import utterance
from speechrows.corpora.nemo.files import ManifestRun
from speechrows.corpora.nemo.files import ManifestStream
from speechrows.corpora.nemo.files import list_manifests
from speechrows.corpora.nemo.records import ManifestError
from speechrows.corpora.nemo.records import is_utterance
from speechrows.corpora.nemo.records import parse_conversation
from speechrows.corpora.nemo.records import parse_utterance

__all__ = [
    "ManifestError",
    "ManifestRun",
    "ManifestStream",
    "conversation",
    "is_utterance",
    "list_manifests",
    "parse_conversation",
    "parse_utterance",
    "utterance",
]
