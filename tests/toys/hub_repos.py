"""What a small Hub stores, all in memory: repositories, their commits and files, and who may see them."""

import hashlib
import json
import re
import secrets
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from dataclasses import field
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import yaml

from toys.hub_xet import xet_file

TYPES = {"models": "model", "datasets": "dataset", "spaces": "space"}
TOKENS = {  # a token: its user, and what he may do
    "hf_admin": ("tester", "write"),
    "hf_reader": ("reader", "read"),
    "hf_stranger": ("stranger", "write"),
}
LFS = re.compile(
    r"\.(parquet|arrow|bin|pt|zip|gz|tar|zst|npy|npz|wav|flac|mp3|ogg|opus|mp4|safetensors|model|h5|7z)$"
)
FRONT_MATTER = re.compile(r"---\s*\n(.*?\n)---\s*(\n|$)", re.DOTALL)
UNAUTHORIZED = {"WWW-Authenticate": "Bearer"}
# Of a request's number, method and path: None, "lost", "cut", or a status with its message.
Fault = Callable[[int, str, str], Any]


class HubError(Exception):
    """An answer that is no success."""

    def __init__(
        self, status: int, message: str, code: str | None = None, headers: dict[str, str] | None = None
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.headers = status, message, code, headers or {}


@dataclass
class Entry:
    """A file in a tree."""

    oid: str  # git's; of an LFS file, its pointer's
    size: int
    sha256: str  # the key in Hub.blobs
    lfs: bool

    @property
    def pointer(self) -> dict[str, Any]:
        """What the Hub says of an LFS file's pointer."""
        return {"size": self.size, "pointerSize": len(lfs_pointer(self.sha256, self.size))}


@dataclass
class Commit:
    oid: str
    parent: str | None
    title: str
    message: str
    author: str
    date: str
    tree: dict[str, Entry]


@dataclass
class Repo:
    type: str
    id: str
    private: bool
    commits: dict[str, Commit] = field(default_factory=dict)
    refs: dict[str, str] = field(default_factory=dict)  # "refs/heads/main": a commit's oid
    discussions: list[dict[str, Any]] = field(default_factory=list)
    settings: dict[str, Any] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return self.id.partition("/")[0]

    def resolve(self, revision: str) -> Commit:
        """The commit of a branch, a tag, a ref or an oid."""
        for ref in (f"refs/heads/{revision}", f"refs/tags/{revision}", revision):
            if ref in self.refs:
                return self.commits[self.refs[ref]]
        if revision in self.commits:
            return self.commits[revision]
        raise HubError(404, f"Invalid rev id: {revision}", "RevisionNotFound")

    def commit(
        self, parent: str | None, tree: dict[str, Entry], title: str, message: str, author: str
    ) -> str:
        """A new commit's oid; no ref points to it yet."""
        files = sorted((path, entry.oid) for path, entry in tree.items())
        content = json.dumps([parent, title, files, time.time_ns()]).encode()
        oid = hashlib.sha1(content).hexdigest()
        self.commits[oid] = Commit(oid, parent, title, message, author, now(), dict(tree))
        return oid

    def open_discussion(
        self, user: str, title: str, description: str | None, *, is_pr: bool, base: str = "main"
    ) -> dict[str, Any]:
        """A discussion, or a pull request with a ref of its own."""
        number = len(self.discussions) + 1
        first = event(user, "comment", edited=False, hidden=False, latest={"raw": description or ""})
        discussion = {
            "num": number,
            "title": title,
            "status": "draft" if is_pr else "open",
            "isPullRequest": is_pr,
            "createdAt": now(),
            "events": [first],
            "author": user,
        }
        self.discussions.append(discussion)
        if is_pr:
            self.refs[f"refs/pr/{number}"] = self.resolve(base).oid
        return discussion


class Hub:
    """Everything that a Hub knows, and the faults that it is told to have."""

    def __init__(
        self,
        orgs: tuple[str, ...] = ("org",),
        multipart_above: int = 32 << 20,
        chunk_size: int = 8 << 20,
        page: int = 1000,
        lfs_above: int = 10 << 20,
    ) -> None:
        self.orgs, self.multipart_above, self.chunk_size, self.page = orgs, multipart_above, chunk_size, page
        self.lfs_above = lfs_above
        self.members = {"tester", "reader"}  # who sees the orgs' private repositories
        self.cdn_url = ""
        self.xet_dir: Path | None = None  # where hf_xet uploads to, once a test says so
        self.xet_hashes: dict[str, str] = {}  # by SHA-256, of files that were uploaded there
        self.repos: dict[tuple[str, str], Repo] = {}
        self.blobs: dict[str, bytes] = {}  # by SHA-256
        self.parts: dict[str, dict[int, bytes]] = {}  # of uploads that are not complete
        self.lock = threading.RLock()
        self.log: list[tuple[str, str, int, bytes]] = []  # method, path?query, status, begin of the body
        self.sent: list[tuple[str, int]] = []  # path, bytes of the answer's body
        self.asked = 0  # requests so far
        self.fail_next: list[tuple[int, str]] = []  # status and message of the next answers
        self.fault: Fault | None = None

    # --- who asks ---------------------------------------------------------------------------

    def user(self, request: BaseHTTPRequestHandler) -> tuple[str | None, str | None]:
        """Who asks, and his role; None without a token."""
        token = re.match(r"Bearer (.+)", request.headers.get("authorization") or "")
        if not token:
            return None, None
        if token[1] not in TOKENS:
            raise HubError(401, "Invalid credentials in Authorization header", headers=UNAUTHORIZED)
        return TOKENS[token[1]]

    def owns(self, user: str | None, namespace: str) -> bool:
        return user == namespace or (namespace in self.orgs and user in self.members)

    def repo(
        self,
        request: BaseHTTPRequestHandler,
        kind: str,
        repo_id: str,
        *,
        write: bool = False,
        by_pull_request: bool = False,
    ) -> Repo:
        """A repository that whoever asks may see, and write to."""
        user, role = self.user(request)
        repo = self.repos.get((kind, repo_id))
        if repo is None or (repo.private and not self.owns(user, repo.namespace)):
            raise HubError(404 if user else 401, "Repository not found", "RepoNotFound")
        if write and not user:
            raise HubError(401, "Unauthorized", headers=UNAUTHORIZED)
        if write and (role != "write" or not (by_pull_request or self.owns(user, repo.namespace))):
            raise HubError(403, f"Forbidden: you must have write access to {repo_id}", "Forbidden")
        return repo

    # --- files ------------------------------------------------------------------------------

    def put_blob(self, data: bytes) -> str:
        sha256 = hashlib.sha256(data).hexdigest()
        self.blobs[sha256] = data
        return sha256

    def put_file(self, data: bytes) -> Entry:
        """A file as git stores it."""
        return Entry(git_oid(data), len(data), self.put_blob(data), lfs=False)

    def lfs_file(self, sha256: str) -> Entry:
        """An LFS file whose bytes were uploaded before."""
        if sha256 not in self.blobs and self.xet_dir and (file := xet_file(self.xet_dir, sha256)):
            self.blobs[sha256], self.xet_hashes[sha256] = file
        if sha256 not in self.blobs:
            raise HubError(400, f"LFS pointer pointed to a file that does not exist: {sha256}")
        size = len(self.blobs[sha256])
        return Entry(git_oid(lfs_pointer(sha256, size)), size, sha256, lfs=True)

    # --- what is shown of it ----------------------------------------------------------------

    def file_info(self, path: str, entry: Entry, commit: Commit, *, expand: bool) -> dict[str, Any]:
        """A file of a listing."""
        info: dict[str, Any] = {"type": "file", "path": path, "oid": entry.oid, "size": entry.size}
        if entry.lfs:
            info["lfs"] = {"oid": entry.sha256, **entry.pointer}
        if entry.sha256 in self.xet_hashes:
            info["xetHash"] = self.xet_hashes[entry.sha256]
        if expand:
            info["lastCommit"] = {"id": commit.oid, "title": commit.title, "date": commit.date}
            info["securityFileStatus"] = {"status": "safe", "avScan": None, "pickleImportScan": None}
        return info

    def repo_info(self, repo: Repo, commit: Commit, *, blobs: bool = False) -> dict[str, Any]:
        return {
            "_id": hashlib.md5(repo.id.encode()).hexdigest()[:24],
            "id": repo.id,
            "author": repo.namespace,
            "sha": commit.oid,
            "lastModified": commit.date,
            "createdAt": commit.date,
            "private": repo.private,
            "gated": repo.settings.get("gated", False),
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "cardData": self._card(commit),
            "siblings": [
                {"rfilename": path, **(_sibling(entry) if blobs else {})}
                for path, entry in sorted(commit.tree.items())
            ],
            "usedStorage": sum(entry.size for entry in commit.tree.values()),
        }

    def _card(self, commit: Commit) -> dict[str, Any]:
        """The YAML head of README.md; none where it is broken, as on the Hub."""
        readme = commit.tree.get("README.md")
        text = self.blobs[readme.sha256].decode("utf8", "replace") if readme else ""
        if head := FRONT_MATTER.match(text):
            try:
                return json.loads(json.dumps(yaml.safe_load(head[1]) or {}, default=str))
            except yaml.YAMLError:
                return {}
        return {}


def _sibling(entry: Entry) -> dict[str, Any]:
    lfs = {"lfs": {"sha256": entry.sha256, **entry.pointer}} if entry.lfs else {}
    return {"size": entry.size, "blobId": entry.oid, **lfs}


def folder_info(path: str, commit: Commit, *, expand: bool) -> dict[str, Any]:
    """A folder of a listing."""
    oid = hashlib.sha1((commit.oid + path).encode()).hexdigest()
    info: dict[str, Any] = {"type": "directory", "path": path, "oid": oid, "size": 0}
    if expand:
        info["lastCommit"] = {"id": commit.oid, "title": commit.title, "date": commit.date}
    return info


def event(user: str, kind: str, **data: Any) -> dict[str, Any]:
    """Something that happened in a discussion."""
    return {
        "id": secrets.token_hex(12),
        "type": kind,
        "createdAt": now(),
        "author": {"name": user},
        "data": data,
    }


def now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


def git_oid(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def lfs_pointer(sha256: str, size: int) -> bytes:
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()
