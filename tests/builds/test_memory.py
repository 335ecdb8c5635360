"""A build's memory does not grow with the corpus: peaks of processes that do nothing else."""

import json
from pathlib import Path

import pytest
from toys.build_process import ForkedBuild
from toys.corpus import write_corpus

LIMIT_MB = 600
NOTICEABLE_MB = 80


@pytest.mark.parametrize(
    ("dialogues", "options"),
    [
        pytest.param(72, {}, id="one process, one shard"),  # 200 MB
        pytest.param(
            128, {"num_proc": 2, "shard_bytes": 175 << 20}, id="a shard a worker", marks=pytest.mark.soak
        ),
    ],
)
def test_a_build_stays_small_whatever_the_corpus_weighs(
    tmp_path: Path, dialogues: int, options: dict[str, int]
) -> None:
    small = write_corpus(tmp_path / "small", dialogues=32, seconds=14)  # 90 MB
    large = write_corpus(tmp_path / "large", dialogues=dialogues, seconds=14)
    builds = [_start(small), _start(large, **options)]
    before, after = map(_peak_mb, builds)
    assert after < min(LIMIT_MB, before + NOTICEABLE_MB), (before, after)


@pytest.mark.soak
def test_a_build_of_4_000_tiny_clips_stays_small(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus", dialogues=400, turns=10, seconds=0.1)
    assert _peak_mb(_start(corpus)) < LIMIT_MB


def _start(corpus: Path, **options: int) -> ForkedBuild:
    out = corpus.with_name(f"{corpus.name}-rows-{len(options)}")
    return ForkedBuild(corpus, out, **options)


def _peak_mb(build: ForkedBuild) -> float:
    """The peak of a build's largest process."""
    output, errors = build.communicate(timeout=120)
    assert build.returncode == 0, errors
    return max(json.loads(output)) / 1000
