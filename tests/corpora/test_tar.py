"""Archives are read in order, whatever shape they come in, and say what is wrong with them."""

import gzip
import io
import json
import random
import tarfile
from collections.abc import Callable
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import fsspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toys.examples import FEW
from toys.examples import MANY
from toys.processes import run_python

from speechrows.corpora import tar as tar_module
from speechrows.corpora.folder import Corpus
from speechrows.corpora.tar import Member
from speechrows.corpora.tar import members
from speechrows.errors import StoreError
from speechrows.storage import retry
from speechrows.types import Reason
from speechrows.types import UnreadableFile

FILES = {
    f"t_{i}/t_{i}_{j}_b.wav": random.Random(4 * i + j).randbytes(700 * i + 511)
    for i in range(9)
    for j in range(4)
}


def tar(files: Iterable[tuple[str, bytes] | tarfile.TarInfo], **options: Any) -> bytes:
    """A plain archive of files, and of entries that are none."""
    into = io.BytesIO()
    with tarfile.open(fileobj=into, mode="w", **options) as archive:
        for file in files:
            if isinstance(file, tarfile.TarInfo):
                archive.addfile(file)
            else:
                info = tarfile.TarInfo(file[0])
                info.size = len(file[1])
                archive.addfile(info, io.BytesIO(file[1]))
    return into.getvalue()


def entry(name: str, kind: bytes, *, size: int = 0, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


PLAIN = tar(FILES.items())


def read(folder: Path, *slices: bytes) -> tuple[list[Member], list[str]]:
    """The members of an archive of these slices, and what is said to be wrong with it."""
    names = [f"part_{i:02}" for i in range(len(slices))]
    for name, data in zip(names, slices, strict=True):
        (folder / name).write_bytes(data)
    entries = list(members(Corpus.open(str(folder)), names))
    wrong = [file for file in entries if isinstance(file, UnreadableFile)]
    assert wrong in ([], entries[-1:])  # said once, and last
    assert all(file.file in names for file in wrong)
    return [file for file in entries if isinstance(file, Member)], [file.detail for file in wrong]


def contents(files: list[Member]) -> dict[str, bytes]:
    return {file.name: file.data for file in files if file.refused is None}


def cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_every_member_comes_in_order_with_its_bytes(
    tmp_path: Path, pack: Callable[[bytes], bytes], form: int
) -> None:
    files = [*FILES.items(), ("t_日本/é.wav", b"other scripts"), ("x/" * 90 + "long.wav", b"long")]
    entries, wrong = read(tmp_path, pack(tar(files, format=form)))
    assert [(member.name, member.data, member.refused) for member in entries] == [
        (*file, None) for file in files
    ]
    assert wrong == []
    assert entries[-1].basename == "long.wav"


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
@pytest.mark.parametrize("size", [1000, 65536, 70001])
def test_byte_slices_are_one_archive(tmp_path: Path, pack: Callable[[bytes], bytes], size: int) -> None:
    entries, wrong = read(tmp_path, *cut(pack(PLAIN), size))
    assert (contents(entries), wrong) == (FILES, [])
    first_byte_alone = pack(PLAIN)
    entries, wrong = read(tmp_path, first_byte_alone[:1], first_byte_alone[1:])
    assert (contents(entries), wrong) == (FILES, [])


def test_a_gzip_file_of_many_streams_with_padding_is_read_to_its_end(tmp_path: Path) -> None:
    streams = [gzip.compress(piece) for piece in cut(PLAIN, 5000)]
    assert contents(read(tmp_path, b"".join(streams))[0]) == FILES
    assert read(tmp_path, b"\0\0".join(streams) + bytes(1000))[1] == []
    assert read(tmp_path, b"".join(streams) + b"what gzip ignores")[1] == []


def test_an_archive_of_a_remote_store_gives_the_same(tmp_path: Path) -> None:
    fsspec.filesystem("memory").pipe("/archives/a.tar.gz", gzip.compress(PLAIN))
    entries = members(Corpus.open("memory://archives"), ["a.tar.gz"])
    assert contents([member for member in entries if isinstance(member, Member)]) == FILES


class Flaky(io.BytesIO):
    """A store whose connection breaks every 20 000 bytes, as often as there are breaks left."""

    breaks = 0

    def read(self, size: int | None = -1) -> bytes:
        if Flaky.breaks and self.tell() > 20_000:
            Flaky.breaks -= 1
            raise OSError("connection reset")
        return super().read(10_000)


@pytest.mark.parametrize(("breaks", "is_enough"), [(2, True), (3, False)])
def test_a_store_that_breaks_off_is_asked_again_from_there_on(
    monkeypatch: pytest.MonkeyPatch, breaks: int, is_enough: bool
) -> None:
    class Store(Corpus):
        def open_file(self, path: str) -> Any:
            return Flaky(PLAIN)

    monkeypatch.setattr(retry, "PAUSES", (0.0, 0.0))
    monkeypatch.setattr(Flaky, "breaks", breaks)
    store = Store(root="store", located={"a.tar": "far://a.tar"})
    if is_enough:
        assert (
            contents([member for member in members(store, ["a.tar"]) if isinstance(member, Member)]) == FILES
        )
    else:
        with pytest.raises(StoreError, match=r"store/a\.tar: the store did not answer at byte 30000"):
            list(members(store, ["a.tar"]))


# --- bad archives ---------------------------------------------------------------------------


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
@given(share=st.floats(0, 0.999))
@FEW
def test_half_an_archive_gives_its_whole_members_and_says_that_it_is_cut(
    tmp_path_factory: pytest.TempPathFactory, pack: Callable[[bytes], bytes], share: float
) -> None:
    whole = pack(PLAIN.rstrip(b"\0"))
    entries, wrong = read(tmp_path_factory.mktemp("half"), whole[: int(len(whole) * share)])
    assert list(contents(entries).items()) == list(FILES.items())[: len(entries)]
    assert len(entries) >= int(len(FILES) * share**3) - 4
    assert len(wrong) == 1
    assert "Download it again" in wrong[0]


def test_an_archive_without_its_end_mark_says_so(tmp_path: Path) -> None:
    at = PLAIN.index(b"t_5/t_5_0")
    entries, wrong = read(tmp_path, PLAIN[:at])
    assert len(entries) == 20
    assert "found no mark of its end after 20 members, the last 't_4/t_4_3_b.wav'" in wrong[0]


def test_a_spoilt_header_ends_an_archive_aloud(tmp_path: Path) -> None:
    """tarfile alone takes it for the end, and is silent."""
    at = PLAIN.index(b"t_5/t_5_0")
    spoilt = PLAIN[:at] + b"!" + PLAIN[at + 1 :]
    with tarfile.open(fileobj=io.BytesIO(spoilt)) as tarfile_alone:
        assert len(tarfile_alone.getmembers()) == 20
    entries, wrong = read(tmp_path, spoilt)
    assert len(entries) == 20
    assert "found what is no header after 20 members" in wrong[0]


def test_a_checksum_that_differs_is_said(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(PLAIN))
    packed[-8] ^= 1
    entries, wrong = read(tmp_path, bytes(packed))
    assert contents(entries) == FILES
    assert "incorrect data check" in wrong[0]


def test_two_archives_in_one_file_are_not_taken_for_the_first(tmp_path: Path) -> None:
    entries, wrong = read(tmp_path, PLAIN + PLAIN)
    assert len(entries) == len(FILES)
    assert "another archive behind its end" in wrong[0]


@pytest.mark.parametrize(
    "data",
    [b"", b"v", b"version https://git-lfs.github.com/spec/v1\n", b"<html>" * 200, gzip.compress(b"")],
    ids=["nothing", "a byte", "a pointer", "a page", "gzip of nothing"],
)
def test_what_is_no_archive_is_said_with_its_name(tmp_path: Path, data: bytes) -> None:
    entries, wrong = read(tmp_path, data)
    assert entries == []
    assert "before any member; expected a whole tar archive" in wrong[0]


def test_a_missing_archive_or_slice_is_said_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(PLAIN[:9000])
    *_, wrong = members(Corpus.open(str(tmp_path)), ["a", "gone"])
    assert isinstance(wrong, UnreadableFile)
    assert wrong.file == "gone"
    assert "No such file" in wrong.detail


def test_entries_that_are_no_files_or_lead_out_are_refused_and_cost_no_other(tmp_path: Path) -> None:
    bad = [
        entry("dev.wav", tarfile.CHRTYPE),
        entry("disk.wav", tarfile.BLKTYPE),
        entry("pipe.wav", tarfile.FIFOTYPE),
        entry("soft.wav", tarfile.SYMTYPE, link="/etc/passwd"),
        entry("hard.wav", tarfile.LNKTYPE, link="../../x"),
    ]
    outside = [("../up.wav", b"1"), ("a/../../up2.wav", b"2"), ("/etc/abs.wav", b"3"), ("C:\\d.wav", b"4")]
    entries, wrong = read(
        tmp_path, tar([entry("folder", tarfile.DIRTYPE), *bad, *outside, ("./good.wav", b"5")])
    )
    assert contents(entries) == {"good.wav": b"5"}
    refused = [member for member in entries if member.refused]
    assert [member.basename for member in refused[:5]] == [member.name for member in bad]
    assert len(refused) == 9
    assert {member.refused.reason for member in refused if member.refused} == {Reason.REFUSED_PATH}
    assert [member.data for member in refused] == [b""] * 9
    assert refused[0].refused
    assert refused[0].refused.detail == "found 'dev.wav', a device; expected a file"
    assert wrong == []


def test_a_member_that_claims_terabytes_is_not_read_into_memory(tmp_path: Path) -> None:
    whole = tar([("small.wav", b"before"), entry("bomb.wav", tarfile.REGTYPE, size=5 << 40)])
    entries, wrong = read(tmp_path, whole)
    assert contents(entries) == {"small.wav": b"before"}
    assert [(member.name, member.refused.reason) for member in entries if member.refused] == [
        ("bomb.wav", Reason.TOO_LARGE)
    ]
    assert "unexpected end of data after 2 members, the last 'bomb.wav'" in wrong[0]


def test_a_header_that_claims_terabytes_is_not_read_into_memory(tmp_path: Path) -> None:
    for kind in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE):
        entries, wrong = read(
            tmp_path, tar([("a.wav", b"1"), entry("long", kind, size=5 << 40)], format=tarfile.GNU_FORMAT)
        )
        assert contents(entries) == {"a.wav": b"1"}
        assert "a header of 5497558138880 bytes" in wrong[0]


def test_a_large_member_is_passed_over_and_what_follows_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar_module, "MAX_BYTES", 5000)
    entries, wrong = read(tmp_path, gzip.compress(PLAIN))
    assert contents(entries) == {name: data for name, data in FILES.items() if len(data) <= 5000}
    assert sum(member.refused is not None for member in entries) == 8
    assert wrong == []


@given(flips=st.lists(st.tuples(st.integers(0, 40_000), st.integers(1, 255)), min_size=1, max_size=6))
@MANY
def test_no_spoilt_byte_raises_or_invents_a_member(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    files = [(f"f{i}", bytes([i]) * 300) for i in range(20)]
    spoilt = bytearray(tar([*files, ("x" * 300, b"long")], format=tarfile.PAX_FORMAT))
    for at, by in flips:
        spoilt[at % len(spoilt)] ^= by
    entries, _ = read(tmp_path_factory.mktemp("spoilt"), bytes(spoilt))
    assert len(entries) <= 21 + len(flips)


_PEAK = """
import json, sys
from pathlib import Path
from speechrows.corpora.tar import members
from speechrows.corpora.folder import Corpus
def peak():
    return int(next(l for l in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in l).split()[1])
corpus, before = Corpus.open(sys.argv[1]), None
for number, _ in enumerate(members(corpus, ["part_00"])):
    before = before or (peak() if number == 2000 else None)
print(json.dumps([number + 1, peak() - before]))
"""


def test_memory_does_not_grow_with_members_or_with_what_a_bomb_unpacks_to(tmp_path: Path) -> None:
    files = ((f"t_{i}/a.wav", b"") for i in range(40_000))
    bomb = entry("bomb.wav", tarfile.REGTYPE, size=5 << 28)
    packed = gzip.compress(tar(files)[:-10240], 1) + gzip.compress(bomb.tobuf(), 1)
    packed += gzip.compress(bytes(64 << 20), 1) * 20 + gzip.compress(bytes(1024))
    (tmp_path / "part_00").write_bytes(packed)
    number, grown_kb = json.loads(run_python(_PEAK, tmp_path))
    assert number == 40_001
    assert grown_kb < 8_000
