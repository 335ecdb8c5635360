"""A built folder, opened once for all its loaders."""

from functools import cached_property
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from speechrows.errors import UsageError
from speechrows.folder.index import Allocate
from speechrows.folder.index import Index
from speechrows.folder.rows_folder import RowsFolder
from speechrows.loader.rendered import Rendered
from speechrows.loader.rendered import rendered
from speechrows.storage.filesystem import path_text
from speechrows.text.tokenizers import open_tokenizer


class OpenedFolder:
    """A built folder or Hub dataset, opened once, as are its tokenizer and the index of each config.

    Give it to `load` in place of a path where one folder has several loaders. What is written to the
    folder later is not seen.
    """

    def __init__(self, path: str | Path) -> None:
        self._folder: RowsFolder | str = path_text(path)
        self._indexes: dict[tuple[str, str], Index] = {}

    def index(self, config: str, split: str) -> Index:
        """The index of a config and split.

        Raises:
            UsageError: no such folder, config or split; see Index.open.
        """
        name = str(config), str(split)  # of whatever was given: Index.open refuses what is no name
        if name not in self._indexes:
            self._indexes[name] = self.open_index(config, split)
        return self._indexes[name]

    def open_index(self, config: str, split: str, **allocate: Allocate) -> Index:
        """The index of a config and split, read anew and not kept: see Index.open.

        Raises:
            UsageError: see index.
        """
        index = Index.open(self._folder, config, split, **allocate)
        self._folder = index.folder
        return index

    def count(self, config: str, split: str) -> int:
        """The rows of a config and split.

        Raises:
            UsageError: see index.
        """
        self._folder, num_rows = Index.count(self._folder, config, split)
        return num_rows

    def rendered(
        self,
        config: str,
        split: str,
        tokenizer: str | PreTrainedTokenizerFast | None = None,
        audio_tokens_per_second: str | float | None = None,
    ) -> Rendered:
        """The rows of a config and split under a tokenizer and a rate of audio tokens, by default their own.

        Raises:
            UsageError: see index, Retokenizer.of.
        """
        index = self.index(config, split)
        tokenizer = self.chosen_tokenizer(tokenizer)
        index, read = rendered(index, self.tokenizer, tokenizer, audio_tokens_per_second)
        return Rendered(index=index, tokenizer=tokenizer, read=read)

    def chosen_tokenizer(self, tokenizer: str | PreTrainedTokenizerFast | None) -> PreTrainedTokenizerFast:
        """The tokenizer that is given, opened where it is a name; by default that of the rows.

        Raises:
            UsageError: it is none, or can not be opened.
        """
        if tokenizer is None:
            return self.tokenizer
        if isinstance(tokenizer, str | Path):
            return open_tokenizer(str(tokenizer))
        if not isinstance(tokenizer, PreTrainedTokenizerFast):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise UsageError(
                f"tokenizer: found {tokenizer!r:.80}, expected a name, a folder, or a fast one, open"
            )
        return tokenizer

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer that the rows were built with."""
        if isinstance(self._folder, str):
            self._folder = RowsFolder.open(self._folder)
        return open_tokenizer(self._folder.tokenizer_folder())
