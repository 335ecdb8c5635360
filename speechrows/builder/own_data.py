"""The config of builders that read anyone's data: clips may lie in a folder of their own."""

from dataclasses import dataclass
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
    audio_root: str | None = flag(None, "the folder that names of clips are below, if not their file's")

    def open_corpus(self) -> Corpus:
        """The folder of the data, with the folder of clips where that lies elsewhere."""
        corpus = super().open_corpus()
        return with_clips(corpus, self.audio_root) if self.audio_root else corpus

    def clip_names(self, corpus: Corpus) -> ClipNames:
        """Where the clips lie that the data name."""
        return ClipNames(corpus, clips_folder(corpus, self.audio_root) if self.audio_root else None)

    def recipe(self, listing: list[Entry], joined: str | None) -> dict[str, Any]:
        """What decides the rows, as JSON gives it back; where on this machine clips lie does not."""
        recipe = super().recipe(listing, joined)
        del recipe["audio_root"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in recipe.items()}
