"""The peers of the loader, each with its own format, in a process of their own.

    python loader_peers.py NAME FOLDER --make ROWS    # a built folder's rows into the peer's format
    python loader_peers.py NAME FOLDER …              # reads an epoch of it

Every one shuffles and gives batches of about the same seconds of audio, float32 and padded; `_int16`
gives the WAV's samples as they lie there, one after another, nothing decoded. Tokens and labels come
with the audio where a format carries arrays: all but lhotse's, which has the text.
"""

import argparse
import importlib
import sys
import types
from collections.abc import Iterable
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from loader_measure import Seen
from loader_measure import options
from loader_measure import tell
from loader_rows import Item
from loader_rows import as_arrays
from loader_rows import collate
from loader_rows import collate_int16
from loader_rows import joined
from loader_rows import rows_of

BUFFER = 1000  # rows that datasets and webdataset shuffle among


class Peer:
    """A peer's reader: `make` once, then batches; what has a state gives and takes it."""

    needs: tuple[str, ...] = ()  # imported before the clock starts
    streamed: Any  # what has the state, where anything has

    def __init__(self, folder: str, *, seconds: float, rows: int, workers: int, int16: bool) -> None:
        self.folder, self.seconds, self.rows, self.workers = folder, seconds, rows, workers
        self.collate = collate_int16 if int16 else collate

    @staticmethod
    def make(rows: str, out: str) -> None:
        raise NotImplementedError

    def loader(self) -> Iterable[Item]:
        raise NotImplementedError

    def __iter__(self) -> Iterator[Seen]:
        for batch in self.loader():
            yield batch["row_id"], batch["num_samples"]

    def state_dict(self) -> Any:
        return self.streamed.state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.streamed.load_state_dict(state)


class Lhotse(Peer):
    """SHAR, WAV, with DynamicBucketingSampler as its documentation sets it up."""

    needs = ("lhotse.shar", "lhotse.dataset.iterable_dataset")

    def __init__(self, folder: str, **options: Any) -> None:
        from lhotse import CutSet
        from lhotse.dataset import DynamicBucketingSampler

        super().__init__(folder, **options)
        split = self.workers > 0
        cuts = CutSet.from_shar(in_dir=folder, shuffle_shards=True, split_for_dataloading=split, seed=0)
        self.streamed = DynamicBucketingSampler(cuts, max_duration=self.seconds, shuffle=True, num_buckets=30)

    @staticmethod
    def make(rows: str, out: str) -> None:
        from lhotse import Recording
        from lhotse import SupervisionSegment
        from lhotse.shar import SharWriter

        Path(out).mkdir(parents=True)
        with SharWriter(out, fields={"recording": "wav"}, shard_size=500) as writer:
            for row in rows_of(rows):
                cut = Recording.from_bytes(row["audio"], recording_id=row["row_id"]).to_cut()
                cut.id = row["row_id"]
                supervision = {"start": 0, "duration": cut.duration, "text": row["transcript"]}
                cut.supervisions = [SupervisionSegment(id=cut.id, recording_id=cut.id, **supervision)]
                writer.write(cut)

    def loader(self) -> Iterable[Item]:
        from lhotse.dataset.dataloading import make_worker_init_fn
        from lhotse.dataset.iterable_dataset import IterableDatasetWrapper
        from torch.utils.data import DataLoader

        reads = IterableDatasetWrapper(_Cuts(), self.streamed)
        init = make_worker_init_fn(rank=0, world_size=1) if self.workers else None
        return DataLoader(reads, batch_size=None, num_workers=self.workers, worker_init_fn=init)


class _Cuts:
    """What lhotse calls a map-style dataset: cuts in, a padded batch out."""

    def __getitem__(self, cuts: Any) -> Item:
        from lhotse.dataset.collation import collate_audio

        speech, lengths = collate_audio(cuts)
        texts = [cut.supervisions[0].text for cut in cuts]
        ids = [cut.id for cut in cuts]
        return {"speech": speech, "num_samples": lengths.tolist(), "row_id": ids, "text": texts}


class Datasets(Peer):
    """datasets, streaming the built folder's parquet itself, shuffled; clips by soundfile."""

    needs = ("datasets", "soundfile", "torch.utils.data")

    decode = False

    def __init__(self, folder: str, **options: Any) -> None:
        import datasets

        super().__init__(folder, **options)
        files = sorted(str(path) for path in Path(folder).rglob("data/**/*.parquet"))
        columns = ["row_id", "audio", "input_ids", "labels"]
        rows: Any = datasets.load_dataset(
            "parquet", data_files={"train": files}, split="train", streaming=True, columns=columns
        )
        rows = rows.cast_column("audio", datasets.Audio(decode=self.decode))
        self.streamed = rows.shuffle(seed=0, buffer_size=BUFFER)

    @staticmethod
    def make(rows: str, out: str) -> None:
        Path(out).symlink_to(Path(rows).resolve())

    def loader(self) -> Iterable[Item]:
        from torch.utils.data import DataLoader

        return DataLoader(
            self.streamed, batch_size=self.rows, collate_fn=self.put_together, num_workers=self.workers
        )

    def put_together(self, items: list[Item]) -> Item:
        return self.collate([{**item, "audio": item["audio"]["bytes"]} for item in items])


class Torchcodec(Datasets):
    """The same, decoded by datasets' own Audio feature, which is torchcodec."""

    needs = ("datasets", "torchcodec.decoders", "torch.utils.data")

    decode = True

    def put_together(self, items: list[Item]) -> Item:
        waves = [item["audio"].get_all_samples().data[0] for item in items]
        return joined(items, waves, pad=True)


class Webdataset(Peer):
    """Tar shards, shuffled by shard and in a buffer."""

    needs = ("webdataset", "soundfile", "torch.utils.data")

    @staticmethod
    def make(rows: str, out: str) -> None:
        import webdataset

        Path(out).mkdir(parents=True)
        with webdataset.ShardWriter(f"{out}/%05d.tar", maxcount=500, verbose=0) as writer:
            for number, row in enumerate(map(as_arrays, rows_of(rows))):
                tokens = {name: row[name].tobytes() for name in ("input_ids", "labels")}
                sample = {"id": row["row_id"].encode(), "wav": row["audio"], **tokens}
                writer.write({"__key__": f"{number:08d}", **sample})

    def loader(self) -> Iterable[Item]:
        import numpy as np
        import webdataset
        from torch.utils.data import DataLoader

        def item(sample: Item) -> Item:
            tokens = {name: np.frombuffer(sample[name], np.int32).copy() for name in ("input_ids", "labels")}
            return {"row_id": sample["id"].decode(), "audio": sample["wav"], **tokens}

        shards = sorted(str(path) for path in Path(self.folder).glob("*.tar"))
        rows = webdataset.WebDataset(shards, shardshuffle=len(shards), seed=0).shuffle(BUFFER).map(item)
        rows = rows.batched(self.rows, collation_fn=self.collate)
        return DataLoader(rows, batch_size=None, num_workers=self.workers)


class Litdata(Peer):
    """litdata's chunks, globally shuffled."""

    needs = ("litdata", "soundfile", "torch.utils.data")

    @staticmethod
    def make(rows: str, out: str) -> None:
        import litdata

        litdata.optimize(
            as_arrays, list(rows_of(rows)), out, chunk_bytes="64MB", num_workers=1, verbose=False
        )

    def __init__(self, folder: str, **options: Any) -> None:
        import litdata

        super().__init__(folder, **options)
        rows = litdata.StreamingDataset(folder, shuffle=True, seed=0)
        self.streamed = litdata.StreamingDataLoader(
            rows, batch_size=self.rows, collate_fn=self.collate, num_workers=self.workers
        )

    def loader(self) -> Iterable[Item]:
        return self.streamed


def _without_torchvision() -> None:
    """mosaicml-streaming imports torchvision for its picture classes; requirements-peers.txt has none."""
    from transformers.models.auto.tokenization_auto import AutoTokenizer  # looks for torchvision, once

    assert AutoTokenizer
    names = {"": (), ".datasets": ("VisionDataset", "CIFAR10"), ".transforms": ()}
    for name, classes in {**names, ".transforms.functional": ("to_tensor",)}.items():
        module = sys.modules[f"torchvision{name}"] = types.ModuleType(f"torchvision{name}")
        for class_name in classes:
            setattr(module, class_name, type(class_name, (), {}))


class Mosaic(Peer):
    """mosaicml-streaming's MDS shards, shuffled by its default."""

    needs = ("streaming", "soundfile", "torch.utils.data")

    @staticmethod
    def make(rows: str, out: str) -> None:
        from streaming import MDSWriter

        tokens = {"input_ids": "ndarray:int32", "labels": "ndarray:int32"}
        with MDSWriter(out=out, columns={"row_id": "str", "audio": "bytes", **tokens}) as writer:
            for row in rows_of(rows):
                writer.write(as_arrays(row))

    def __init__(self, folder: str, **options: Any) -> None:
        from streaming import StreamingDataLoader
        from streaming import StreamingDataset
        from streaming.base.util import clean_stale_shared_memory

        super().__init__(folder, **options)
        clean_stale_shared_memory()
        rows = StreamingDataset(local=folder, shuffle=True, batch_size=self.rows)
        self.streamed = StreamingDataLoader(
            rows, batch_size=self.rows, collate_fn=self.collate, num_workers=self.workers
        )
        self.streamed._get_batch_size = lambda batch: len(batch["row_id"])  # guesses wrong where it is ragged

    def loader(self) -> Iterable[Item]:
        return self.streamed


PEERS: dict[str, type[Peer]] = {
    "lhotse": Lhotse, "datasets": Datasets, "torchcodec": Torchcodec, "webdataset": Webdataset,
    "litdata": Litdata, "mosaic": Mosaic,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("name", choices=PEERS)
    parser.add_argument("folder")
    parser.add_argument("--make", metavar="ROWS")
    parser.add_argument("--seconds", type=float, default=200.0, help="of audio in a batch")
    parser.add_argument("--rows", type=int, default=40, help="in a batch, where batches have a fixed number")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--int16", action="store_true")
    options(parser)
    arguments = parser.parse_args()
    peer = PEERS[arguments.name]
    if arguments.name == "mosaic":
        _without_torchvision()
    if arguments.make:
        peer.make(arguments.make, arguments.folder)
        return
    sizes = {
        "seconds": arguments.seconds,
        "rows": arguments.rows,
        "workers": arguments.workers,
        "int16": arguments.int16,
    }
    for name in peer.needs:
        importlib.import_module(name)
    tell(lambda: peer(arguments.folder, **sizes), arguments)


if __name__ == "__main__":
    main()
