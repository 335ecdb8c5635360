"""Ways to bring a folder of WAVs into a columnar file. Each is run in a process of its own.

`python contenders.py NAME CORPUS OUT` prints the seconds it took, those of CPU, imports not counted in
either, and the peak memory in MB.
"""

import glob
import os
import resource
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

Contender = Callable[[str, str], Callable[[], None]]


def _clips(corpus: str) -> list[str]:
    return sorted(glob.glob(f"{corpus}/data/*/*/segments/*.wav"))


def raw_copy(corpus: str, out: str) -> Callable[[], None]:
    """Every clip's bytes into one file: what the disk can do."""

    def run() -> None:
        with open(f"{out}/copy", "wb") as file:
            for clip in _clips(corpus):
                with open(clip, "rb") as source:
                    shutil.copyfileobj(source, file, 1 << 20)

    return run


def _bare(corpus: str, out: str, *, sync: bool) -> Callable[[], None]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def run() -> None:
        writer, clips = None, _clips(corpus)
        for at in range(0, len(clips), 128):
            column = pa.array([Path(clip).read_bytes() for clip in clips[at : at + 128]], pa.binary())
            table = pa.table({"audio": column})
            writer = writer or pq.ParquetWriter(
                f"{out}/bare.parquet", table.schema, compression="none", use_dictionary=False
            )
            writer.write_table(table)
        assert writer is not None
        writer.close()
        if sync:
            with open(f"{out}/bare.parquet", "rb+") as file:
                os.fsync(file.fileno())

    return run


def bare_column(corpus: str, out: str) -> Callable[[], None]:
    """The same bytes into a bare parquet column with pyarrow: the unit of the table."""
    return _bare(corpus, out, sync=False)


def bare_column_synced(corpus: str, out: str) -> Callable[[], None]:
    """The same, brought to disk before it ends, as speechrows does."""
    return _bare(corpus, out, sync=True)


def _speechrows(corpus: str, out: str, num_proc: int, shard_bytes: int = 1 << 30) -> Callable[[], None]:
    from speechrows.builder.builder import load_builder
    from speechrows.builds.run import build

    builder = load_builder("deepdialogue_ttt")

    def run() -> None:
        built = builder(config_name="ttt", data_dir=corpus)
        built.shard_bytes = shard_bytes
        (job,) = built.jobs()
        build(job, Path(out) / "rows", num_proc=num_proc)

    return run


def speechrows(corpus: str, out: str) -> Callable[[], None]:
    """`speechrows build deepdialogue_ttt ttt`, one process."""
    return _speechrows(corpus, out, 1)


def small_shards(corpus: str, out: str) -> Callable[[], None]:
    """The same in shards of 64 MB, so that there is work for two processes."""
    return _speechrows(corpus, out, 1, 64 << 20)


def small_shards_2(corpus: str, out: str) -> Callable[[], None]:
    """The same with two."""
    return _speechrows(corpus, out, 2, 64 << 20)


def _builder(
    corpus: str, out: str, num_proc: int | None = None, file_format: str = "parquet"
) -> Callable[[], None]:
    from deepdialogue_ttt import DeepDialogueTTT

    def run() -> None:
        DeepDialogueTTT.shard_bytes = 64 << 20
        builder = DeepDialogueTTT(config_name="ttt", data_dir=corpus, cache_dir=f"{out}/cache")
        builder.download_and_prepare(num_proc=num_proc, file_format=file_format)

    return run


def datasets_builder(corpus: str, out: str) -> Callable[[], None]:
    """The builder class through datasets' own download_and_prepare, as parquet."""
    return _builder(corpus, out)


def datasets_builder_2(corpus: str, out: str) -> Callable[[], None]:
    """The same with two processes."""
    return _builder(corpus, out, num_proc=2)


def datasets_builder_arrow(corpus: str, out: str) -> Callable[[], None]:
    """The same as Arrow, which is datasets' default, and load_dataset's."""
    return _builder(corpus, out, file_format="arrow")


def audiofolder(corpus: str, out: str) -> Callable[[], None]:
    """datasets' audiofolder, clips embedded into parquet: audio alone, no text, no tokens."""
    import datasets
    from datasets.table import embed_table_storage

    def run() -> None:
        files = {"train": _clips(corpus)}
        rows = datasets.load_dataset("audiofolder", data_files=files, split="train", cache_dir=f"{out}/cache")
        rows = rows.with_format("arrow").map(embed_table_storage, batched=True, batch_size=100)
        rows.to_parquet(f"{out}/folder.parquet")

    return run


def lhotse_shar(corpus: str, out: str) -> Callable[[], None]:
    """lhotse's SHAR writer, recordings as WAV."""
    from lhotse import CutSet
    from lhotse import Recording
    from lhotse import RecordingSet

    def run() -> None:
        recordings = RecordingSet.from_recordings(
            Recording.from_file(clip, recording_id=clip.replace("/", "-")) for clip in _clips(corpus)
        )
        Path(f"{out}/shar").mkdir()
        CutSet.from_manifests(recordings=recordings).to_shar(
            f"{out}/shar", fields={"recording": "wav"}, shard_size=1000
        )

    return run


def founding_script(corpus: str, out: str) -> Callable[[], None]:
    """As the founding document sketches it: decode, tokenise, float samples, save_to_disk."""
    import json

    import datasets
    import soundfile

    from speechrows.text.tokenizers import byte_level

    tokenizer = byte_level()

    def turns(corpus: str) -> object:
        for file in sorted(glob.glob(f"{corpus}/data/*/*.json")):
            turns = json.loads(Path(file).read_text("utf-8"))["conversation"]
            clips = sorted(glob.glob(f"{file[:-5]}/segments/*.wav"))
            for number, (turn, clip) in enumerate(zip(turns, clips, strict=True)):
                speech, _ = soundfile.read(clip, dtype="float32")
                ids = tokenizer.encode(f"<SPEECH> {turn['text']}")
                ids += [0] * (-len(ids) % 64)
                yield {
                    "speech": speech, "speech_lengths": len(speech), "input_ids": ids, "labels": ids,
                    "conversation_id": Path(file).stem, "turn_number": number,
                }  # fmt: skip

    def run() -> None:
        features = datasets.Features(
            {
                "speech": datasets.Sequence(datasets.Value("float32")),
                "speech_lengths": datasets.Value("int64"),
                "input_ids": datasets.Sequence(datasets.Value("int32")),
                "labels": datasets.Sequence(datasets.Value("int32")),
                "conversation_id": datasets.Value("string"),
                "turn_number": datasets.Value("int32"),
            }
        )
        rows = datasets.Dataset.from_generator(
            turns, gen_kwargs={"corpus": corpus}, features=features, cache_dir=f"{out}/cache"
        )
        rows.save_to_disk(f"{out}/saved")

    return run


CONTENDERS: dict[str, Contender] = {
    contender.__name__: contender
    for contender in (
        raw_copy, bare_column, bare_column_synced, speechrows, small_shards,
        small_shards_2, datasets_builder,
        datasets_builder_2, datasets_builder_arrow, audiofolder, lhotse_shar, founding_script,
    )
}  # fmt: skip


def main() -> None:
    """Run one contender and print what it took."""
    name, corpus, out = sys.argv[1:]
    os.environ.update(HF_DATASETS_DISABLE_PROGRESS_BARS="1", HF_HUB_OFFLINE="1")
    shutil.rmtree(out, ignore_errors=True)
    Path(out).mkdir(parents=True)
    run = CONTENDERS[name](corpus, out)
    start, cpu_start = time.perf_counter(), sum(os.times()[:4])
    run()
    seconds, cpu = time.perf_counter() - start, sum(os.times()[:4]) - cpu_start
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    largest = max(own, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
    shutil.rmtree(out)
    print(seconds, cpu, largest / 1024)


if __name__ == "__main__":
    main()
