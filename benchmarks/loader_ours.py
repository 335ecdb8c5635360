"""Our loader, in a process of its own: the same measures as its peers.

python loader_ours.py KIND ROWS …
"""

import argparse
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from loader_measure import Seen
from loader_measure import options
from loader_measure import tell


def load(folder: str, options: argparse.Namespace) -> Any:
    import speechrows

    return speechrows.load(
        folder, "ttt", mode="bucket", budget_seconds=options.seconds, num_threads=options.threads
    )


class Ours:
    """Batches of speechrows.load: `padded` are torch's, `ragged` what lies on the host before."""

    def __init__(self, folder: str, options: argparse.Namespace) -> None:
        self.loader = load(folder, options)
        self.kind = options.kind

    def __iter__(self) -> Iterator[Seen]:
        if self.kind == "padded":
            for batch in self.loader:
                yield list(batch.row_ids), batch.speech_lengths.tolist()
            return
        with closing(self.loader.ragged()) as batches:
            for ragged in batches:
                ragged.release()
                yield list(ragged.row_ids), ragged.num_samples.tolist()

    def state_dict(self) -> Any:
        return self.loader.state_dict()

    def load_state_dict(self, state: Any) -> None:
        self.loader.load_state_dict(state)


class Sequential:
    """The bytes of the shards from their beginning to their end: what the storage can do."""

    def __init__(self, folder: str, _: argparse.Namespace) -> None:
        self.paths = sorted(Path(folder).rglob("data/**/*.parquet"))

    def __iter__(self) -> Iterator[Seen]:
        buffer = bytearray(1 << 20)
        for path in self.paths:
            with path.open("rb", buffering=0) as file:
                while size := file.readinto(buffer):
                    yield [], [size // 2]


class Alone(Ours):
    """The clips' samples alone."""

    def __iter__(self) -> Iterator[Seen]:
        return read_alone(self.loader)


def read_alone(loader: Any) -> Iterator[Seen]:
    """Read the clips' samples in the plan's order: no tokens, no labels, no threads."""
    import numpy as np

    from speechrows.loader.read.local import LocalClips

    index = loader.index
    clips = LocalClips(index)
    buffer = np.empty(0, np.int16)
    for micro_batch in loader.plan.for_rank(0, 1):
        samples = index.num_samples[micro_batch.rows]
        size = int(samples.sum())
        if size > len(buffer):
            buffer = np.empty(size * 9 // 8, np.int16)
        clips.read(micro_batch.rows, buffer[:size])
        yield [""] * len(samples), samples.tolist()


READERS: dict[str, Any] = {"ragged": Ours, "padded": Ours, "alone": Alone, "sequential": Sequential}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=READERS)
    parser.add_argument("folder")
    parser.add_argument("--seconds", type=float, default=200.0, help="of audio in a batch")
    parser.add_argument("--threads", type=int, default=2)
    options(parser)
    arguments = parser.parse_args()
    import speechrows

    assert speechrows.load  # imported here, before the clock starts
    reader = READERS[arguments.kind]
    tell(lambda: reader(arguments.folder, arguments), arguments)


if __name__ == "__main__":
    main()
