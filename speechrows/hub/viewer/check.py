"""Whether the Hub's viewer can show a dataset: its limits, checked before anybody waits for it.

The rules are those of dataset-viewer's source (August 2026). Read are the card, the parquet footers,
names of clips, and the small columns of the first rows; never audio.
"""

from tqdm import tqdm

from speechrows.hub.viewer.findings import ViewerReport
from speechrows.hub.viewer.listing import parts
from speechrows.hub.viewer.repository import Repository
from speechrows.hub.viewer.shards import Shard
from speechrows.hub.viewer.shards import check_split
from speechrows.hub.viewer.shards import look

__all__ = ["ViewerReport", "check_viewer"]


def check_viewer(address: str) -> ViewerReport:
    """Check a folder, or a Hub dataset `org/name`, against the viewer's limits.

    Raises:
        UsageError: there is no such folder or dataset.
        StoreError: a remote store did not answer.
    """
    there, report = Repository.open(address), ViewerReport(address=address)
    _check_script(there, report)
    found = parts(there, report)
    shards = dict[str, Shard]()
    paths = list(dict.fromkeys(path for part in found for path in part.files))
    for path in tqdm(paths, desc="check-viewer", unit=" files", disable=None):  # quiet when not a terminal
        shard = look(path, there, report)
        if shard is not None:
            shards[path] = shard
    answered = set[tuple[str, ...]]()  # stages that show the same files show the same rows
    for part in found:
        if part.files not in answered:
            check_split(part, shards, there, report)
            answered.add(part.files)
    report.num_files = len(shards)
    report.num_bytes, report.num_bytes_read = there.num_bytes, there.num_bytes_read
    return report


def _check_script(there: Repository, report: ViewerReport) -> None:
    """Datasets 4 and later refuse a repository that holds its own script; a folder is not named yet."""
    own = f"{there.name}.py"
    scripts = [path for path in there.files if path == own or (there.is_local and path.endswith(".py"))]
    for path in scripts:
        if "/" not in path:
            found = "a repository of that name is taken for a loading script, which nothing runs any more"
            report.fail("script", path, found, "Delete it, or move it into a folder")
