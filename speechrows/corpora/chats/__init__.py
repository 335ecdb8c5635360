"""Chats as people's data have them: records of messages, in lines or arrays of JSON, as dialogues."""

from speechrows.corpora.chats.dialogues import Place
from speechrows.corpora.chats.dialogues import dialogue
from speechrows.corpora.chats.files import Named
from speechrows.corpora.chats.files import RecordRun
from speechrows.corpora.chats.files import RecordStream
from speechrows.corpora.chats.files import list_records
from speechrows.corpora.chats.records import ChatError
from speechrows.corpora.chats.records import parse_chat

__all__ = [
    "ChatError",
    "Named",
    "Place",
    "RecordRun",
    "RecordStream",
    "dialogue",
    "list_records",
    "parse_chat",
]
