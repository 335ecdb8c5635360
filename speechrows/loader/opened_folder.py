"""A built folder, opened once for all its loaders."""

from functools import cached_property
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from speechrows.folder.index import Index
from speechrows.folder.rows_folder import RowsFolder
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
            index = self._indexes[name] = Index.open(self._folder, config, split)
            self._folder = index.folder
        return self._indexes[name]

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer that the rows were built with."""
        if isinstance(self._folder, str):
            self._folder = RowsFolder.open(self._folder)
        return open_tokenizer(self._folder.tokenizer_folder())
