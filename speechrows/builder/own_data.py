"""The config of builders that read anyone's data: clips may lie in a folder of their own."""

from dataclasses import dataclass
from dataclasses import fields
from typing import Any

from speechrows.builder.config import SpeechConfig
from speechrows.corpora.entries import Entry
from speechrows.corpora.folder import Corpus
from speechrows.corpora.tables.names import ClipNames
from speechrows.corpora.two_folders import clips_folder
from speechrows.corpora.two_folders import with_clips
from speechrows.flags import flag


@dataclass
class OwnDataConfig(SpeechConfig):
    """What a person says of data of their own."""

    source: str | None = flag(None, "a data set of the Hub, org/name")
    audio_root: str | None = flag(
        None, "the folder where clips lie that the data name, if not beside the file that names them"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, tuple) and field.name != "generated":
                # As a recipe gives it back; Python may give one value alone.
                setattr(self, field.name, [value] if isinstance(value, str) else list(value))

    def open_corpus(self) -> Corpus:
        """The folder of the data, with the folder of clips where that lies elsewhere."""
        corpus = super().open_corpus()
        return with_clips(corpus, self.audio_root) if self.audio_root else corpus

    def clip_names(self, corpus: Corpus) -> ClipNames:
        """Where the clips lie that the data name."""
        return ClipNames(corpus, clips_folder(corpus, self.audio_root) if self.audio_root else None)

    def recipe(self, listing: list[Entry], joined: str | None) -> dict[str, Any]:
        """What decides the rows; of a folder of clips, not where it lies on this machine."""
        recipe = super().recipe(listing, joined)
        folder = recipe.pop("audio_root") and clips_folder(self.inputs.corpus, str(self.audio_root))
        return recipe if folder is None else {**recipe, "audio_root": folder or "."}
