"""A built folder, opened once for all its loaders."""

from functools import cached_property

from transformers import PreTrainedTokenizerFast

from speechrows.folder.index import Index
from speechrows.folder.rows_folder import RowsFolder
from speechrows.text.tokenizers import open_tokenizer


class OpenedFolder:
    """A built folder or Hub dataset, opened once, as are its tokenizer and the index of each config.

    Give it to `load` in place of a path where one folder has several loaders. What is written to the
    folder later is not seen.
    """

    def __init__(self, path: str) -> None:
        self._folder: RowsFolder | str = path
        self._indexes: dict[tuple[str, str], Index] = {}

    def index(self, config: str, split: str) -> Index:
        """The index of a config and split.

        Raises:
            UsageError: no such folder, config or split; see Index.open.
        """
        if (config, split) not in self._indexes:
            index = self._indexes[config, split] = Index.open(self._folder, config, split)
            self._folder = index.folder
        return self._indexes[config, split]

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerFast:
        """The tokenizer that the rows were built with."""
        if isinstance(self._folder, str):
            self._folder = RowsFolder.open(self._folder)
        return open_tokenizer(self._folder.tokenizer_folder())
