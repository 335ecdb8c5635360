"""A loader as torch's IterableDataset: for DataLoader, transformers' Trainer and Lightning."""

from collections.abc import Iterator
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from torch.utils.data import IterableDataset
from torch.utils.data import get_worker_info

from speechrows.loader.loader import Loader


class RowsDataset(IterableDataset[dict[str, Any]]):
    """The loader's batches as dicts of Batch's fields; give it to a DataLoader with `batch_size=None`.

    Fields that are None are left out: `Batch(**{name: values.get(name) for name in Batch.__slots__})`
    makes a batch of a dict.

    Each rank makes its own, with its own `rank` and `world_size`: do not shard it again. Workers of a
    DataLoader share the batches so that they come in the loader's order. As processes of their own they
    do not move the loader's state: to save it take `num_workers=0`; otherwise call `set_epoch` before
    each epoch, or all epochs are the same.

    transformers' Trainer batches and shards what it is given. Override its get_train_dataloader to
    return `DataLoader(self.train_dataset, batch_size=None)`, and say `remove_unused_columns=False`. The
    model takes the fields, and `num_items_in_batch` to divide its loss by. Trainer does not save the
    loader's state: keep `state_dict()` beside its checkpoints, and resume with `ignore_data_skip=True`.
    """

    def __init__(self, loader: Loader) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[dict[str, Any]]:
        worker = get_worker_info()
        batches = self.loader if worker is None else self.loader.share(worker.id, worker.num_workers)
        for batch in batches:
            values = {field.name: getattr(batch, field.name) for field in fields(batch)}
            yield {name: value for name, value in values.items() if value is not None}

    def __len__(self) -> int:
        return len(self.loader)

    def set_epoch(self, epoch: int) -> None:
        """As Loader.set_epoch."""
        self.loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """As Loader.state_dict."""
        return self.loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """As Loader.load_state_dict."""
        self.loader.load_state_dict(state)
