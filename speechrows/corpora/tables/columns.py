"""What the columns of tables mean: as a person says, or by their usual names."""

from collections.abc import Iterable
from collections.abc import Mapping
from collections.abc import Sequence
from dataclasses import dataclass
from dataclasses import field
from typing import Any

from speechrows.corpora.tables.records import Table
from speechrows.corpora.tables.records import head
from speechrows.corpora.turns import is_audio
from speechrows.errors import UsageError
from speechrows.errors import did_you_mean

# What a column may be for, and the names by which it is found: in any case, with spaces or hyphens too.
USUAL: Mapping[str, tuple[str, ...]] = {
    "audio": (
        *("audio", "wav", "speech", "audio_filepath", "audio_file", "audio_path", "audio_url", "file_name"),
        *("filename", "file", "file_path", "filepath", "path", "wav_path", "clip", "recording"),
    ),
    "text": (
        *("text", "transcript", "transcription", "transcriptions", "sentence", "normalized_text", "raw_text"),
        *("txt", "utterance", "orthographic", "human_transcript"),
    ),
    "id": ("id", "utt_id", "utterance_id", "segment_id", "sample_id", "clip_id", "uid"),
    "speaker": ("speaker", "speaker_id", "spk", "spk_id", "client_id", "speaker_name"),
    "role": ("role",),
    "conversation": (
        *("conversation", "conversation_id", "conv_id", "dialogue", "dialogue_id", "dialog", "dialog_id"),
        "call_id",
    ),
    "turn": ("turn", "turn_id", "turn_index", "turn_idx", "turn_number", "turn_no"),
    "start": ("start", "start_s", "start_time", "begin_time", "segment_start", "start_seconds"),
    "answer": ("answer", "answers", "response", "reply"),
    "system": ("system", "system_prompt"),
    "codes": ("codes", "mimi_codes", "audio_codes"),
    "split": ("split", "subset"),
    "domain": ("domain", "topic"),
    "offset": ("offset",),
    "duration": ("duration", "duration_s", "duration_seconds"),
}
FLAGS = {"system": "--system-column", "split": "--split-column"}  # those that are not called as their column
TRAITS: Mapping[str, tuple[str, ...]] = {  # by arguments of traits.normalise
    "emotion": ("emotion",),
    "gender": ("gender", "sex"),
    "age": ("age",),
    "accent": ("accent", "accents"),
    "speaking_rate": ("speaking_rate", "pace"),
    "relative_db": ("relative_db", "volume"),
}
_TRAIT_OF = {"pace": "speaking_rate", "volume": "relative_db"}  # as rows call them
_IN_CONVERSATIONS = ("turn", "start", "role")  # which mean nothing elsewhere


@dataclass(frozen=True, kw_only=True, slots=True)
class Columns:
    """The column of each purpose, by its name in the tables; None where there is none.

    `traits` are columns by arguments of traits.normalise; `offset` and `duration` are where in a longer
    recording a clip is, in seconds.
    """

    audio: str
    text: str
    id: str | None = None
    speaker: str | None = None
    role: str | None = None
    conversation: str | None = None
    turn: str | None = None
    start: str | None = None
    answer: str | None = None
    system: str | None = None
    codes: str | None = None
    split: str | None = None
    domain: str | None = None
    offset: str | None = None
    duration: str | None = None
    traits: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def names(self) -> list[str]:
        """Every column but that of clips."""
        chosen = [getattr(self, purpose) for purpose in USUAL if purpose != "audio"]
        return list(dict.fromkeys(name for name in (*chosen, *self.traits.values()) if name))

    def describe(self) -> str:
        """Which column is what, in words."""
        chosen = {purpose: getattr(self, purpose) for purpose in USUAL}
        return ", ".join(f"{purpose} {name!a}" for purpose, name in {**chosen, **self.traits}.items() if name)


def choose(
    tables: Mapping[str, Table],
    found: Mapping[str, Mapping[str, bool]],
    given: Mapping[str, str | None],
    trait_flags: Sequence[str],
) -> Columns:
    """Choose among the columns `found` in tables, by path; True are those that hold clips.

    `given` names the column of a purpose, "" none; where that is None, its usual names are looked for.

    Raises:
        UsageError: a column that was named is nowhere; of one that is needed there is none, or several.
    """
    known = {name: is_clip for columns in found.values() for name, is_clip in columns.items()}
    chosen = _chosen(known, tables, given)
    for purpose in ("audio", "text"):
        if chosen[purpose] is None:
            raise UsageError(_missing(purpose, known))
    columns = Columns(**chosen, traits=_traits(trait_flags, known))  # pyright: ignore[reportArgumentType]
    for path, names in found.items():
        for name in (columns.audio, columns.text):
            if name not in names:
                other = next(other for other in found if name in found[other])
                raise UsageError(
                    f"{path}: has the columns {_list(names)}; expected {name!a} too, as in {other}. Say "
                    "which tables are read (--table PATTERN), or rename the column"
                )
    return columns


def _chosen(
    known: Mapping[str, bool], tables: Mapping[str, Table], given: Mapping[str, str | None]
) -> dict[str, str | None]:
    """The column of each purpose; None where there is none, or where it would mean nothing."""
    chosen: dict[str, str | None] = {}
    for purpose in USUAL:
        name = given.get(purpose)
        if name is None:
            name = _column_of_clips(known, tables) if purpose == "audio" else _usual(purpose, known)
        elif name:
            _check_known(name, _flag(purpose), known)
        chosen[purpose] = name or None
    if chosen["conversation"] is None:
        chosen |= dict.fromkeys(purpose for purpose in _IN_CONVERSATIONS if not given.get(purpose))
    if known.get(chosen["audio"] or "") or chosen["offset"] is None:
        chosen |= {"offset": None, "duration": None}  # a clip in its cell is cut out already
    return chosen


def _flag(purpose: str) -> str:
    return FLAGS.get(purpose, f"--{purpose}")


def _list(names: Iterable[str]) -> str:
    return ", ".join(map(ascii, names))


def _check_known(name: str, flag: str, known: Mapping[str, bool]) -> None:
    if name not in known:
        raise UsageError(
            f"{flag} {name}: found no such column; the tables have {_list(known)}{did_you_mean(name, known)}"
        )


def _missing(purpose: str, known: Mapping[str, bool]) -> str:
    what = "clips, or of their names" if purpose == "audio" else "what is said"
    return f"found no column of {what} among {_list(known)}; name it: {_flag(purpose)} COLUMN"


def _named(usual: Sequence[str], known: Mapping[str, bool]) -> list[str]:
    return [name for name in known if name.strip().lower().replace(" ", "_").replace("-", "_") in usual]


def _usual(purpose: str, known: Mapping[str, bool]) -> str | None:
    """The column that has one of the usual names of a purpose."""
    return _only(f"{_flag(purpose)} ", _named(USUAL[purpose], known))


def _only(flag: str, names: Sequence[str]) -> str | None:
    """The one of some columns; `flag`, before the name of any, would choose it."""
    if len(names) > 1:
        raise UsageError(f"found the columns {_list(names)}, expected one; say which: {flag}{names[0]}")
    return names[0] if names else None


def _column_of_clips(known: Mapping[str, bool], tables: Mapping[str, Table]) -> str | None:
    """The column that holds clips; where none does, the one whose cells name some."""
    clips, named = [name for name, is_clip in known.items() if is_clip], _named(USUAL["audio"], known)
    if clips:
        return _only("--audio ", [name for name in clips if name in named] or clips)
    if len(named) > 1:
        rows = head(next(iter(tables.values())), named)
        named = [name for name in named if any(_names_clip(row.get(name)) for row in rows)] or named
    return _only("--audio ", named)


def _names_clip(cell: Any) -> bool:
    name = cell.get("path") if isinstance(cell, dict) else cell
    return isinstance(name, str) and is_audio(name)


def _traits(flags: Sequence[str], known: Mapping[str, bool]) -> dict[str, str]:
    """Columns by arguments of traits.normalise: as flags say, else by their usual names."""
    traits: dict[str, str] = {}
    for flag in flags:
        trait, equals, name = flag.partition("=")
        if not equals or _TRAIT_OF.get(trait, trait) not in TRAITS:
            expected = ", ".join([*TRAITS, *_TRAIT_OF])
            raise UsageError(f"--trait {flag}: expected TRAIT=COLUMN, and TRAIT one of {expected}")
        if name:
            _check_known(name, f"--trait {trait}", known)
        traits[_TRAIT_OF.get(trait, trait)] = name
    for trait, usual in TRAITS.items():
        if trait not in traits and (name := _only(f"--trait {trait}=", _named(usual, known))):
            traits[trait] = name
    return {trait: name for trait, name in traits.items() if name}
