"""The rows of a parquet file as utterances: dialogues of one turn, spoken by the user."""

from collections.abc import Iterator
from collections.abc import Mapping
from collections.abc import Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from speechrows.codec import CODECS
from speechrows.codec import check
from speechrows.corpora import parquet
from speechrows.corpora import traits
from speechrows.corpora.cells import Cell
from speechrows.corpora.cells import clip_cells
from speechrows.corpora.columnar import Source
from speechrows.corpora.columnar import SourceFile
from speechrows.corpora.columnar import columns_of
from speechrows.corpora.entries import basename
from speechrows.corpora.folder import Corpus
from speechrows.types import AudioRef
from speechrows.types import Codes
from speechrows.types import Dialogue
from speechrows.types import Fault
from speechrows.types import Int16
from speechrows.types import Reason
from speechrows.types import Rule
from speechrows.types import Traits
from speechrows.types import Turn
from speechrows.types import UnreadableFile

_Row = Mapping[str, Any]  # its cells by column, as Python has them


def read_utterances(corpus: Corpus, file: SourceFile, task: str) -> Iterator[Dialogue | UnreadableFile]:
    """Read the utterances of a file, in order.

    Rows of a source with modes are left out where theirs is not `task`.

    Raises:
        UsageError: the file lacks a column, or has one of a type that can not be it.
        StoreError: a remote store did not answer.
    """
    for batch in parquet.read_batches(corpus, file.path, partial(columns_of, file.source, file.path)):
        if isinstance(batch, UnreadableFile):
            yield batch
        else:
            yield from _utterances(file, task, *batch)


def _utterances(file: SourceFile, task: str, first: int, batch: pa.RecordBatch) -> Iterator[Dialogue]:
    """The utterances of a batch, whose first row is the file's row `first`."""
    source = file.source
    spoken = (source.text, source.answer)  # what is no UTF-8 costs its row here; elsewhere it is spelled
    columns = {
        name: parquet.values(batch.column(name), "surrogateescape" if name in spoken else "backslashreplace")
        for name in batch.schema.names
        if name not in (source.audio, source.codes)
    }
    for name, classes in parquet.class_names(batch.schema).items():
        if name in columns:
            columns[name] = [parquet.class_name(value, classes) for value in columns[name]]
    clips = clip_cells(batch.column(source.audio))
    codes = _codes(batch.column(source.codes)) if source.codes else [None] * len(batch)
    for i, (clip, code) in enumerate(zip(clips, codes, strict=True)):
        row = {name: values[i] for name, values in columns.items()}
        yield _utterance(file, task, first + i, row, clip, code)


def _utterance(
    file: SourceFile, task: str, number: int, row: _Row, clip: Cell, codes: Codes | str | None
) -> Dialogue:
    source, place = file.source, f"{file.path}/{number}"
    own_id, is_repeat = row[source.id] if source.id else None, number in file.repeats
    name = f"{file.stem}:{number}" if own_id in (None, "") or is_repeat else str(own_id)
    text, left_out = row[source.text], _left_out(source, task, row)
    answer = first_answer(row[source.answer]) if source.answer else None
    fault = None
    if left_out is None:
        fault = _fault(place, clip, (text, answer), codes, repeated=own_id if is_repeat else None)
    turn = Turn(
        number=0,
        speaker=(source.speaker.value(row) if source.speaker else None) or "",
        role="user",
        text=text if isinstance(text, str) else "",
        audio=_audio(place, number, own_id, row, clip),
        traits=_traits(file, row),
        fault=fault,
        answer=answer if isinstance(answer, str) else None,
        codes=codes if isinstance(codes, Codes) else None,
        left_out=left_out,
    )
    return Dialogue(
        conversation_id=f"{source.name}/{file.publishers_split}/{name}",
        split=file.split,
        domain=None,
        turns=(turn,),
        twin_key=_twin_key(file, row),
        source=file.path,
    )


def _left_out(source: Source, task: str, row: _Row) -> Rule | None:
    if source.mode and row[source.mode] != task:
        return Rule.OTHER_MODE
    if source.impossible and (
        row[source.impossible] is True or first_answer(row[source.answer or ""]) is None
    ):
        return Rule.IMPOSSIBLE
    return None


def first_answer(answers: Any) -> Any:
    """The text of an answer, the first where there are several."""
    if isinstance(answers, dict):  # SQuAD's other form: {"text": [...], "answer_start": [...]}
        answers = answers.get("text")
    first = next(iter(answers), None) if isinstance(answers, list) else answers
    return first.get("text") if isinstance(first, dict) else first


def _audio(place: str, number: int, own_id: Any, row: _Row, clip: Cell) -> AudioRef | None:
    """A clip under the name that its publisher gave it, below its file and row."""
    if clip.data is None:
        return None
    name = str(clip.path or row.get("file") or own_id or number).replace("\\", "/").rstrip("/")
    return AudioRef(path=f"{place}/{basename(name) or number}", data=clip.data)


def _traits(file: SourceFile, row: _Row) -> Traits:
    raw = {name: row.get(column) for name, column in file.source.traits.items()}
    votes = {name: row[name] for name in file.source.votes if isinstance(row.get(name), float)}
    if votes:  # a tie has no emotion, whatever the publisher made of it
        raw["emotion"] = traits.top_vote(votes)
    if not raw:
        return Traits()
    return traits.normalise(**raw, pace_limits=file.pace_limits, volume_limits=file.volume_limits)


def _twin_key(file: SourceFile, row: _Row) -> str | None:
    value = file.apart.value(row) if file.apart else None
    if value is None or file.apart is None:
        return None
    if file.apart.name == file.source.text:
        return "".join(filter(str.isalnum, value.casefold()))  # one text, however a source writes it
    return f"{file.source.name}/{value}"


def _codes(column: parquet.Array) -> list[Codes | str]:
    """Mimi codes, int16 [8, F], or what is wrong with them, of each row."""
    column = column.cast(pa.list_(pa.list_(pa.int64())), safe=False)  # what is too large turns negative
    outer, inner = column.offsets.to_numpy(), column.values.offsets.to_numpy()
    flat = pc.fill_null(column.values.values, -1).to_numpy()  # which is no code
    codes: list[Codes | str] = []
    for i, is_valid in enumerate(column.is_valid().to_pylist()):
        ends = inner[outer[i] : outer[i + 1] + 1]
        lists: Sequence[Int16] = [flat[a:b] for a, b in pairwise(ends)]
        wrong = check(lists, CODECS["mimi"]) if is_valid else "found null, expected 8 lists of mimi codes"
        codes.append(wrong or Codes(codec="mimi", values=np.array(lists, np.int16)))
    return codes


def _fault(
    place: str, clip: Cell, texts: Sequence[Any], codes: Codes | str | None, *, repeated: Any
) -> Fault | None:
    """What is wrong with a row before its clip is looked at; `texts` are its transcript and answer."""
    if repeated is not None:
        detail = f"found the id {repeated!r:.80} again, expected each once in a split"
        return Fault(reason=Reason.BAD_NUMBER, detail=detail, file=place)
    if clip.data is None:
        cell = f"the path {clip.path!r:.80} alone" if clip.path else "null"
        detail = f"found {cell}, expected the bytes of a clip. Take the embedded files"
        return Fault(reason=Reason.MISSING, detail=detail, file=place)
    if texts[0] is None:
        return Fault(reason=Reason.EMPTY_TEXT, detail="the text is null; expected words", file=place)
    for value in texts:
        if value is not None and not isinstance(value, str):
            detail = f"found the text {value!r:.80}, expected a string"
            return Fault(reason=Reason.BAD_TEXT, detail=detail, file=place)
    return Fault(reason=Reason.BAD_CODES, detail=codes, file=place) if isinstance(codes, str) else None
