"""The table of omni_tasks.py: thirteen sources, their columns, and the mix that draws from them."""

import pyarrow.parquet as pq
from toys.omni import BY_NAME
from toys.omni import HUB
from toys.omni import MIX

from omni_tasks import CONFIGS
from omni_tasks import SOURCES
from omni_tasks import OmniTasks
from speechrows.mix import read_mix
from speechrows.mix.resolved import resolve


def test_every_source_has_the_columns_of_the_table_in_the_sample():
    for source in SOURCES:
        files = sorted((HUB / source.repository).rglob("*.parquet"))
        assert files, source.repository
        for file in files:
            assert set(source.wanted) - set(source.votes) <= set(pq.read_schema(file).names)


def test_names_of_sources_tell_them_apart_and_every_config_has_one():
    assert len(BY_NAME) == len(SOURCES) == 13
    assert {task for source in SOURCES for task in source.tasks} == set(CONFIGS) - {"omni"}
    assert {"omni": CONFIGS[1:]} == OmniTasks.UNIONS
    assert "MELD: GPL-3.0" in OmniTasks.ABOUT.licence_note
    cited = OmniTasks.ABOUT.citation.splitlines()
    assert [line.partition(":")[0] for line in cited] == [source.name for source in SOURCES]


def test_the_founding_mix_draws_from_sources_splits_and_tasks_of_the_table():
    sources = resolve(read_mix(MIX)).sources
    sifted: dict[str, int] = {}
    for entry in sources:
        (((condition,),),) = entry.where
        assert (condition.column, condition.operator) == ("conversation_id", "startswith")
        name, split, _ = condition.value.split("/")
        source = BY_NAME[name]
        assert source.splits[split] == entry.split == "train"
        assert entry.configs == source.tasks
        if name == "sift-audio-2":
            sifted[split] = entry.given.samples
    targets = [entry.given.samples for entry in sources]
    assert targets == [350000, 80000, 140000, 400000, 300000, 150000, 150000, 65000, 40000, 22000, 7000]
    assert {*sifted} == set(BY_NAME["sift-audio-2"].splits)
    assert f"{100 * sum(sifted.values()) / sum(targets):.1f} % SIFT" in MIX.read_text("utf-8")
