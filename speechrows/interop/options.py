"""The flags of each export: what a person says of it."""

from dataclasses import dataclass

from speechrows.flags import flag


@dataclass(frozen=True, kw_only=True, slots=True)
class NoOptions:
    """Of an export that asks nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ExportOptions:
    """What every export of conversations is asked."""

    config: str | None = flag(None, "which rows of the folder, such as stage_2; its only ones by default")
    num_proc: int = flag(1, "processes; what is written does not depend on it", least=1)


def _gap() -> float:
    text = "seconds of silence before a turn of which rows do not tell when it begins"
    return flag(0.2, text, least=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class LhotseOptions(ExportOptions):
    """What `export lhotse` is asked."""

    format: str = flag(
        "shar", "archives of lhotse's SHAR, or a manifest beside its clips", choices=("shar", "manifest")
    )
    cuts: str = flag("conversation", "what a cut is", choices=("conversation", "turn"))
    gap: float = _gap()
    shard_mb: int = flag(
        256, "the most MiB of clips in a shard, but for a conversation that is larger", least=1
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class MoshiOptions(ExportOptions):
    """What `export moshi` is asked."""

    gap: float = _gap()
    aligner: str = flag(
        "proportional",
        "when words are said: their share of the turn by letters, or what faster-whisper hears (extra asr)",
        choices=("proportional", "whisper"),
    )
    asr_model: str = flag(
        "Systran/faster-whisper-base",
        "what --aligner whisper hears with: a repository of the Hub, or a folder",
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class NemoOptions(ExportOptions):
    """What `export nemo` is asked."""

    form: str = flag(
        "conversations",
        "conversations: chats, for SALM; duplex: whole conversations in two channels, for speech-to-speech "
        "models; rows: an input_cfg alone, over FOLDER's own shards, of clips and their transcripts",
        choices=("conversations", "duplex", "rows"),
    )
    tar: bool = flag(False, "write clips into archives, each with a manifest, and not as files")
    transcripts: bool = flag(False, "write what is said in a user's clip behind it, as words of the user")
    gap: float = _gap()
    shard_mb: int = flag(
        256, "the most MiB of clips in an archive, but for a conversation that is larger", least=1
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class ShareGptOptions(ExportOptions):
    """What `export sharegpt` is asked."""

    spelled: str = flag(
        "refuse",
        "what becomes of words that spell <audio>, <image> or <video>, which peers take for media: refuse "
        "(leave the conversation out), or replace (by [audio] and so on)",
        choices=("refuse", "replace"),
    )
    answer_audio: bool = flag(
        False, "write <audio> before answers, and their clips; peers take them for input"
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class WebDatasetOptions(ExportOptions):
    """What `export webdataset` is asked."""

    shard_mb: int = flag(
        512, "the most MiB of clips in a shard, but for a conversation that is larger", least=1
    )
