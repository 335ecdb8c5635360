"""mix.yaml: read safely; what is wrong in it is told with its line, and what is expected."""

import json
import re
import tracemalloc
from pathlib import Path

import pyarrow as pa
import pytest

from speechrows.errors import UsageError
from speechrows.mix import Defaults
from speechrows.mix import Mix
from speechrows.mix import Source
from speechrows.mix import Stage
from speechrows.mix import parse_mix
from speechrows.mix import read_mix
from speechrows.mix.conditions import parse_where
from speechrows.mix.resolved import resolve
from speechrows.mix.shares import TICKS_PER_HOUR
from speechrows.mix.shares import Size
from speechrows.mix.shares import schedule

FILES = Path(__file__).parent / "files"
CASES = {case["mix"]: case for case in json.loads((FILES / "mix_cases.json").read_text())}
A = "sources: [{path: a, name: a"


def sizes(pairs: dict[str, list[float]]) -> list[Size]:
    return [
        Size(samples=int(rows), hours=round(hours * TICKS_PER_HOUR), tokens=1)
        for rows, hours in pairs.values()
    ]


def test_the_founding_mix_gives_its_rows() -> None:
    case = CASES["omni.yaml"]
    resolved = resolve(read_mix(FILES / "omni.yaml"))
    plan = schedule(resolved, [Size(samples=1_000_000, hours=1, tokens=1)] * len(resolved.sources))
    assert [*plan.amounts(0)] == [*plan.amounts(7)] == case["expect"]
    assert sum(plan.amounts(0)) == case["expect_rows"]


def test_dialogues_shared_by_the_root_of_their_hours_give_their_hours() -> None:
    case = CASES["dialogue.yaml"]
    plan = schedule(resolve(read_mix(FILES / "dialogue.yaml")), sizes(case["sizes"]))
    hours = [amount / TICKS_PER_HOUR for amount in plan.amounts(0)]
    assert [round(value, 1) for value in hours] == [*case["expect_hours"].values()]
    assert sum(plan.amounts(0)) == 600 * TICKS_PER_HOUR


def test_stages_give_their_rows_epoch_by_epoch_and_the_last_one_stays() -> None:
    case = CASES["staged.yaml"]
    resolved = resolve(read_mix(FILES / "staged.yaml"))
    assert [source.name for source in resolved.sources] == [*case["sizes"]]
    assert [source.tags for source in resolved.sources] == [{"lang": "en"}, {"lang": "en"}, {}, {}]
    plan = schedule(resolved, sizes(case["sizes"]))
    for epoch, expected in enumerate([*case["expect_by_epoch"], case["expect_by_epoch"][-1]]):
        assert [*plan.amounts(epoch)] == [*expected.values()]
        before = [sum(plan.amounts(i)[n] for i in range(epoch)) for n in range(4)]
        assert [*plan.before(epoch)] == before


def test_a_file_and_python_values_are_the_same_mix() -> None:
    text = """
        seed: 3
        defaults: {path: rows/a, where: [[seconds, "<", 9]]}
        temperature: 0.5
        by: tokens
        epoch: {tokens: 5000}
        sources:
          - {name: one, weight: 2, config: [ttt, transcription], tags: {lang: en}}
          - {name: two, weight: 1, sources: [{path: org/b@v1, split: dev}]}
        stages: [{epochs: 2}, {weight: {one: 0}}]
    """
    assert parse_mix(text) == Mix(
        seed=3,
        defaults=Defaults(path="rows/a", where=[["seconds", "<", 9]]),
        temperature=0.5,
        by="tokens",
        epoch={"tokens": 5000},
        sources=(
            Source(name="one", weight=2, config=["ttt", "transcription"], tags={"lang": "en"}),
            Source(name="two", weight=1, sources=(Source(path="org/b@v1", split="dev"),)),
        ),
        stages=(Stage(epochs=2), Stage(weight={"one": 0})),
    )


WRONG = {
    "\nsources: [{path: a, name: a, wieght: 1}]": (
        "line 2: source the mix[0] has no key 'wieght', did you mean weight?. Keys: name, "
        "path, config, split, where, weight, samples, hours, passes, tags, temperature, "
        "sources"
    ),
    "sources: [{path: a, name: a, weight: 1, samples: 3}]": (
        "says how much in two ways: weight and samples. Keep one"
    ),
    "sources: [{path: a, name: a, weight: -1}]": "weight: found -1, expected a number from 0",
    "sources: [{path: a, name: a, weight: .nan}]": "weight: found nan, expected a number from 0",
    "sources: [{path: a, name: a, samples: 1.5}]": "samples: found 1.5, expected a whole number from 0",
    "epoch: first\nsources: [{path: a, name: a, weight: 1}, {path: b}]": (
        "some sources have a weight and some have not; give all of them one, or none"
    ),
    "sources: [{path: a, name: a, weight: 1}]": (
        "weights say shares of an epoch, so say how long one is: epoch: {samples: N}, "
        "{hours: N}, {tokens: N}, first (ends when a source is through) or all (ends when "
        "every source is through)"
    ),
    "sources: [{path: a, name: a, where: [[secnds, <, 3]]}]": (
        "rows have no column 'secnds', did you mean seconds?"
    ),
    "sources: [{path: a, name: a, where: [[seconds, 3]]}]": (
        "['seconds', 3] is no [column, operator, value]; operators: =, ==, !=, <, <=, >, >=, "
        "in, not in, startswith"
    ),
    "sources: [{path: a, name: a, where: [[seconds, <, long]]}]": "seconds is a number, found 'long'",
    "sources: [{path: a, name: a, where: [[audio, =, x]]}]": "audio is neither text nor a number",
    "sources: [{path: a, name: a, tags: {speaker: me}}]": (
        "a tag may not be called speaker: rows have a column of that name"
    ),
    "seed: 1\nsources: [{path: a, name: a}]\n\nseed: 2": "line 4: seed stands twice here; first on line 1",
    "sources: [{name: g, hours: 3, sources: [{path: a}]}]": (
        "g is a group; a group takes weight, its sources take hours"
    ),
    "by: hours\nepoch: {samples: 5}\nsources: [{path: a, name: a, weight: 1}]": (
        "the epoch is given in samples and shares count hours; say by: samples"
    ),
    "epoch: {samples: 5}\nsources: [{path: a, name: a, samples: 1}]": (
        "epoch stands beside samples of a; sources that count"
    ),
    "epoch: first\nsources: [{path: a, name: a, weight: 1}, {path: b, name: b, passes: 2}]": (
        "a has a weight and b says passes; a mix either shares"
    ),
    "sources: [{path: a, name: a}]\nstages: [{weight: {a: 2}}]": (
        "stages[0] has weights and the sources count"
    ),
    "epoch: all\nsources: [{path: a, name: a, weight: 1}]\nstages: [{weight: {aa: 2}}]": (
        "found 'aa', which no source is called; did you mean a?"
    ),
    "epoch: last\nsources: [{path: a, name: a, weight: 1}]": (
        "epoch: found 'last', expected epoch: {samples: N}"
    ),
    "by: rows\nsources: [{path: a, name: a}]": "by: found 'rows', expected samples, hours, tokens",
    "sources: [{name: a}]": "source a has no path; expected a folder or org/name",
    "sources: [{path: a, name: a}, {path: b, name: a}]": "two sources are called a",
    "sources: 3": "the mix: found '3', expected a list",
    "seed: 1": "the mix has no sources",
    "": ("the mix: found nothing, expected keys: seed, defaults, temperature, by, epoch, sources, stages"),
    "sources: [": "is no YAML",
    "sources: [!!python/object/apply:os.system [ls]]": "expected keys: name",
    "sources: [{path: a, name: a, weight: !!python/name:os.system x}]": "which is no value of YAML",
    f"{A}, hours: 1:30}}]": "line 1: found '1:30', expected a number without a colon",
    f"{A}, tags: {{lang: no}}}}]": "tags: lang: found False, expected text, in quotes where need be",
    f"{A}, where: [[seconds, in, [{10**30}]]]}}]": f"where: found {10**30}, expected a number of 64 bits",
}


@pytest.mark.parametrize("text", WRONG)
def test_what_is_wrong_is_told_with_its_place_and_what_is_expected(text: str) -> None:
    with pytest.raises(UsageError, match=re.escape(WRONG[text])) as raised:
        resolve(parse_mix(text, "my.yaml"))
    assert str(raised.value).startswith("my.yaml: ")


def test_weights_of_a_level_that_are_all_0_are_refused_also_in_a_stage() -> None:
    group = "{name: g, weight: 1, sources: [{path: a, name: a, weight: 1}, {path: b, name: b, weight: 2}]}"
    mix = parse_mix(f"epoch: first\nsources: [{group}]\nstages: [{{epochs: 1}}, {{weight: {{a: 0, b: 0}}}}]")
    with pytest.raises(UsageError, match="line 3: all weights of g are 0"):
        schedule(resolve(mix), [Size(samples=5, hours=1, tokens=1)] * 2)


TWO = "sources: [{path: a, weight: %s}, {path: b, weight: 1}]"
TOO_MUCH = {
    f"{A}, samples: {10**12}}}]": "an epoch has 1,000,000,000,000 rows, expected at most 2,147,483,647",
    f"epoch: all\n{TWO}" % "1e-9": "line 1: an epoch has 5,000,000,005 rows",
    f"temperature: 1000\nepoch: all\n{TWO}" % 10: "temperature: found 1000, which takes the weight 10 out",
    f"temperature: 1000\nepoch: all\n{TWO}" % 0.1: "which takes the weight 0.1 out of all numbers",
}


@pytest.mark.parametrize("text", TOO_MUCH)
def test_amounts_and_temperatures_beyond_what_numbers_hold_are_refused(text: str) -> None:
    resolved = resolve(parse_mix(text))
    with pytest.raises(UsageError, match=re.escape(TOO_MUCH[text])):
        schedule(resolved, [Size(samples=5, hours=1, tokens=1)] * len(resolved.sources))


def test_numbers_with_an_exponent_are_numbers_and_quoted_ones_text() -> None:
    mix = parse_mix(
        "epoch: {samples: 1e6}\nsources: [{path: '1e3', weight: 2.5E-3}, {path: b, weight: .1e+1}]"
    )
    assert mix.epoch == {"samples": 1_000_000}
    assert [(source.path, source.weight) for source in mix.sources] == [("1e3", 0.0025), ("b", 1.0)]


def test_a_path_begins_beside_the_file_where_it_is_there_and_else_where_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place in ("conf/rows/a", "rows/a", "rows/b"):
        (tmp_path / place).mkdir(parents=True)
    paths = ["rows/a", "../rows/b", "rows/b", "org/name", str(tmp_path / "rows/a"), "hf://datasets/org/name"]
    text = "sources: [" + ", ".join(f"{{path: '{path}', config: ttt}}" for path in paths) + "]"
    monkeypatch.chdir(tmp_path)
    resolved = [source.path for source in resolve(parse_mix(text, "conf/mix.yaml")).sources]
    assert resolved == ["conf/rows/a", "conf/../rows/b", *paths[2:]]
    assert [source.path for source in resolve(parse_mix(text)).sources] == paths


def test_a_bomb_ends_in_an_error_in_little_memory() -> None:
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12))
    for text, expected in ((bomb, "found the anchor 'a0'"), ("[" * 5000, "lists and maps in one another")):
        tracemalloc.start()
        with pytest.raises(UsageError, match=expected):
            parse_mix(text)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
        tracemalloc.stop()
    with pytest.raises(UsageError, match="more than 1048576 bytes"):
        parse_mix("#" * ((1 << 20) + 1))


def test_the_word_of_the_founding_mix_is_an_alias() -> None:
    assert parse_mix("sources: [{path: a, target_samples: 7}]") == Mix(sources=(Source(path="a", samples=7),))


def test_sources_without_a_name_are_called_after_their_folder_and_each_otherwise() -> None:
    paths = ["rows/a", "org/b@v1", "c/b", "c/b"]
    resolved = resolve(Mix(sources=[Source(path=path, config="ttt") for path in paths]))
    assert [source.name for source in resolved.sources] == ["a", "b/ttt", "b/ttt-2", "b/ttt-3"]


@pytest.mark.parametrize("name", ["=", "==", "<=", ">=", "in"])
def test_a_score_of_32_bits_is_compared_as_it_is_written(name: str) -> None:
    ((condition,),) = parse_where([["badness", name, [0.9] if name == "in" else 0.9]])
    assert condition.holds(pa.array([0.9], pa.float32())).tolist() == [True]
    ((other,),) = parse_where(
        [["badness", "not in" if name == "in" else "!=", [0.9] if name == "in" else 0.9]]
    )
    assert other.holds(pa.array([0.9], pa.float32())).tolist() == [False]
