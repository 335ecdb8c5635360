"""Check a dataset against the limits of the Hub's viewer, before anybody waits for it.

The rules are those of dataset-viewer's source (August 2026). Only the card, the parquet footers,
names of clips and the small columns of the first rows are read; never audio.
"""

from tqdm import tqdm

from speechrows.hub.viewer.findings import ViewerReport
from speechrows.hub.viewer.listing import listed_splits
from speechrows.hub.viewer.repository import Repository
from speechrows.hub.viewer.shards import Footer
from speechrows.hub.viewer.shards import check_file
from speechrows.hub.viewer.shards import check_split

__all__ = ["ViewerReport", "check_viewer"]


def check_viewer(address: str) -> ViewerReport:
    """Check a folder, or a Hub dataset `org/name`, against the viewer's limits.

    Raises:
        UsageError: there is no such folder or dataset.
        StoreError: a remote store did not answer.
    """
    repository, report = Repository.open(address), ViewerReport(address=address)
    _check_script(repository, report)
    splits = listed_splits(repository, report)
    footers = dict[str, Footer]()
    paths = list(dict.fromkeys(path for split in splits for path in split.files))
    for path in tqdm(paths, desc="check-viewer", unit=" files", disable=None):  # quiet when not a terminal
        footer = check_file(path, repository, report)
        if footer is not None:
            footers[path] = footer
    checked = set[tuple[str, ...]]()  # stages that show the same files show the same rows
    for split in splits:
        if split.files not in checked:
            check_split(split, footers, repository, report)
            checked.add(split.files)
    report.num_files = len(footers)
    report.num_bytes, report.num_bytes_read = repository.num_bytes, repository.num_bytes_read
    return report


def _check_script(repository: Repository, report: ViewerReport) -> None:
    """Check for a loading script: datasets 4 and later refuse a repository that has one of its name.

    A folder has no name on the Hub yet: any script beside its card may become one.
    """
    own = f"{repository.name}.py"
    for path in repository.files:
        if "/" not in path and (path == own or (repository.is_local and path.endswith(".py"))):
            problem = "a repository of that name is taken for a loading script, which nothing runs any more"
            report.fail("script", path, problem, "Delete it, or move it into a folder")
