"""A small Hugging Face Hub for tests: standard library only, loopback only, all in memory.

    with MiniHub() as hub:              # starts a thread on 127.0.0.1:<free port>
        os.environ["HF_ENDPOINT"] = hub.url   # BEFORE datasets / huggingface_hub are imported
    python mini_hub.py --port 8123            # or as a process; prints one JSON line when ready

Uploads: LFS basic, LFS multipart (above `multipart_above` bytes), and Xet when `xet_dir` is given
(the write token then points hf_xet at `local://<xet_dir>`; see hub.md).
`hub.log` is the list of requests as (method, path?query, status).
"""

import argparse
import base64
import hashlib
import json
import os
import re
import secrets
import threading
import time
from dataclasses import dataclass
from dataclasses import field
from http.server import BaseHTTPRequestHandler
from http.server import ThreadingHTTPServer
from urllib.parse import parse_qs
from urllib.parse import unquote
from urllib.parse import urlsplit

TYPES = {"models": "model", "datasets": "dataset", "spaces": "space"}
now = lambda: time.strftime("%Y-%m-%dT%H:%M:%S.000Z", time.gmtime())


class Err(Exception):
    def __init__(self, status, msg, code=None, headers=None):
        self.status, self.msg, self.code, self.headers = status, msg, code, headers or {}


@dataclass
class Entry:  # one file in a tree
    oid: str  # git blob sha1 (of the pointer for LFS files)
    size: int
    sha256: str  # key into Hub.blobs
    lfs: bool


@dataclass
class Commit:
    oid: str
    parent: "str | None"
    title: str
    message: str
    author: str
    date: str
    tree: dict


@dataclass
class Repo:
    type: str
    id: str
    private: bool
    commits: dict = field(default_factory=dict)
    refs: dict = field(default_factory=dict)  # "refs/heads/main" -> oid
    discussions: list = field(default_factory=list)
    settings: dict = field(default_factory=dict)


def git_oid(data):
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def pointer(sha256, size):
    return f"version https://git-lfs.github.com/spec/v1\noid sha256:{sha256}\nsize {size}\n".encode()


class Hub:
    LFS_PATTERNS = re.compile(
        r"\.(parquet|arrow|bin|pt|zip|gz|tar|zst|npy|npz|wav|flac|mp3|ogg|opus|mp4|safetensors|model|h5|7z)$"
    )

    def __init__(
        self,
        tokens=None,
        orgs=("org",),
        multipart_above=32 << 20,
        chunk_size=8 << 20,
        page=1000,
        xet_dir=None,
        lfs_above=10 << 20,
    ):
        self.tokens = tokens or {
            "hf_admin": ("tester", "write"),
            "hf_reader": ("reader", "read"),
            "hf_stranger": ("stranger", "write"),
        }
        self.orgs, self.multipart_above, self.chunk_size, self.page = (
            tuple(orgs),
            multipart_above,
            chunk_size,
            page,
        )
        self.members = {"tester", "reader"}  # who sees the orgs' private repos
        self.xet_dir, self.lfs_above = xet_dir, lfs_above
        self.repos, self.blobs, self.parts, self.xet_hashes = {}, {}, {}, {}
        self.lock, self.log, self.fail_next = threading.RLock(), [], []

    # -- auth
    def user(self, h):
        m = re.match(r"Bearer (.+)", h.headers.get("authorization") or "")
        if not m:
            return None, None
        if m[1] not in self.tokens:
            raise Err(
                401, "Invalid credentials in Authorization header", headers={"WWW-Authenticate": "Bearer"}
            )
        return self.tokens[m[1]]

    def can_see(self, repo, user):
        ns = repo.id.split("/")[0]
        return not repo.private or user == ns or (ns in self.orgs and user in self.members)

    def repo(self, h, rtype, rid, write=False, pr=False):
        user, role = self.user(h)
        r = self.repos.get((rtype, rid))
        if r is None or not self.can_see(r, user):
            raise Err(404 if user else 401, "Repository not found", "RepoNotFound")
        if write:
            if not user:
                raise Err(401, "Unauthorized", headers={"WWW-Authenticate": "Bearer"})
            ns = rid.split("/")[0]
            if role != "write" or (not pr and user != ns and not (ns in self.orgs and user in self.members)):
                raise Err(403, f"Forbidden: you must have write access to {rid}", "Forbidden")
        return r

    def resolve(self, repo, rev):
        for k in (f"refs/heads/{rev}", f"refs/tags/{rev}", rev):
            if k in repo.refs:
                return repo.commits[repo.refs[k]]
        if rev in repo.commits:
            return repo.commits[rev]
        raise Err(404, f"Invalid rev id: {rev}", "RevisionNotFound")

    def put_blob(self, data):
        s = hashlib.sha256(data).hexdigest()
        self.blobs[s] = data
        return s

    def new_commit(self, repo, parent, tree, title, message, author):
        oid = hashlib.sha1(
            json.dumps([parent, title, sorted((p, e.oid) for p, e in tree.items()), time.time_ns()]).encode()
        ).hexdigest()
        repo.commits[oid] = Commit(oid, parent, title, message, author, now(), dict(tree))
        return oid

    # -- views
    def info(self, repo, c, blobs=False):
        card = {}
        e = c.tree.get("README.md")
        if e:
            m = re.match(r"---\s*\n(.*?\n)---\s*(\n|$)", self.blobs[e.sha256].decode("utf8", "replace"), re.S)
            if m:
                try:
                    import yaml

                    card = json.loads(json.dumps(yaml.safe_load(m[1]) or {}, default=str))
                except Exception:
                    card = {}
        sib = [
            {
                "rfilename": p,
                **(
                    {
                        "size": e.size,
                        "blobId": e.oid,
                        **(
                            {
                                "lfs": {
                                    "sha256": e.sha256,
                                    "size": e.size,
                                    "pointerSize": len(pointer(e.sha256, e.size)),
                                }
                            }
                            if e.lfs
                            else {}
                        ),
                    }
                    if blobs
                    else {}
                ),
            }
            for p, e in sorted(c.tree.items())
        ]
        return {
            "_id": hashlib.md5(repo.id.encode()).hexdigest()[:24],
            "id": repo.id,
            "author": repo.id.split("/")[0],
            "sha": c.oid,
            "lastModified": c.date,
            "createdAt": c.date,
            "private": repo.private,
            "gated": repo.settings.get("gated", False),
            "disabled": False,
            "tags": [],
            "downloads": 0,
            "likes": 0,
            "cardData": card,
            "siblings": sib,
            "usedStorage": sum(e.size for e in c.tree.values()),
        }

    def entry(self, path, e, c, expand):
        d = {"type": "file", "path": path, "oid": e.oid, "size": e.size}
        if e.lfs:
            d["lfs"] = {"oid": e.sha256, "size": e.size, "pointerSize": len(pointer(e.sha256, e.size))}
            if e.sha256 in self.xet_hashes:
                d["xetHash"] = self.xet_hashes[e.sha256]
        if expand:
            d["lastCommit"] = {"id": c.oid, "title": c.title, "date": c.date}
            d["securityFileStatus"] = {"status": "safe", "avScan": None, "pickleImportScan": None}
        return d

    def folder(self, path, c, expand):
        d = {
            "type": "directory",
            "path": path,
            "oid": hashlib.sha1((c.oid + path).encode()).hexdigest(),
            "size": 0,
        }
        if expand:
            d["lastCommit"] = {"id": c.oid, "title": c.title, "date": c.date}
        return d

    def discussion(self, repo, d):
        return {
            **{k: d[k] for k in ("num", "title", "status", "isPullRequest", "createdAt", "events")},
            "author": {"name": d["author"]},
            "repo": {"name": repo.id, "type": repo.type},
            "filesWithConflicts": [],
            "diff": "",
            "changes": {
                "base": "refs/heads/main",
                **({"mergeCommitId": d["merged"]} if d.get("merged") else {}),
            },
        }

    def open_discussion(self, repo, user, title, description, is_pr, base="main"):
        num = len(repo.discussions) + 1
        ev = [
            {
                "id": secrets.token_hex(12),
                "type": "comment",
                "createdAt": now(),
                "author": {"name": user},
                "data": {"edited": False, "hidden": False, "latest": {"raw": description or ""}},
            }
        ]
        d = {
            "num": num,
            "title": title,
            "status": "draft" if is_pr else "open",
            "isPullRequest": is_pr,
            "createdAt": now(),
            "events": ev,
            "author": user,
        }
        repo.discussions.append(d)
        if is_pr:
            repo.refs[f"refs/pr/{num}"] = self.resolve(repo, base).oid
        return d


ROUTES = []


def route(method, pattern):
    rx = re.compile(
        "^"
        + pattern.replace("{T}", "(?P<T>models|datasets|spaces)")
        .replace("{ID}", r"(?P<ID>[^/]+/[^/]+?)")
        .replace("{REV}", "(?P<REV>[^/]+)")
        .replace("{P}", "(?P<P>datasets/|spaces/|)")
        + "$"
    )

    def deco(f):
        for m in method.split():
            ROUTES.append((m, rx, f))
        return f

    return deco


RID = lambda m: (TYPES[m["T"]], unquote(m["ID"]))
REV = lambda m: unquote(m["REV"])


@route("GET", "/api/whoami-v2")
def whoami(hub, h, m, q):
    user, role = hub.user(h)
    if not user:
        raise Err(401, "Invalid username or password.", headers={"WWW-Authenticate": "Bearer"})
    return {
        "type": "user",
        "id": user,
        "name": user,
        "fullname": user,
        "email": f"{user}@example.invalid",
        "emailVerified": True,
        "isPro": False,
        "orgs": [
            {"type": "org", "name": o, "fullname": o, "roleInOrg": "write"}
            for o in hub.orgs
            if user in hub.members
        ],
        "auth": {"type": "access_token", "accessToken": {"displayName": "t", "role": role}},
    }


@route("POST", "/api/validate-yaml")
def validate_yaml(hub, h, m, q):
    body, errors = h.json(), []
    mm = re.match(r"---\s*\n(.*?\n)---\s*(\n|$)", body["content"], re.S)
    if mm:
        try:
            import yaml

            yaml.safe_load(mm[1])
        except Exception as e:
            errors = [{"message": f"YAML: {e}"}]
    return (400 if errors else 200), {"errors": errors, "warnings": []}


@route("POST", "/api/repos/create")
def create(hub, h, m, q):
    b = h.json()
    user, role = hub.user(h)
    if not user:
        raise Err(401, "Unauthorized", headers={"WWW-Authenticate": "Bearer"})
    ns = b.get("organization") or user
    if role != "write" or (ns != user and not (ns in hub.orgs and user in hub.members)):
        raise Err(
            403,
            f'You don\'t have the rights to create a {b.get("type") or "model"} under the namespace "{ns}"',
        )
    rtype, rid = b.get("type") or "model", f"{ns}/{b['name']}"
    url = f"{h.base}/{'' if rtype == 'model' else rtype + 's/'}{rid}"
    if (rtype, rid) in hub.repos:
        return 409, {"error": f"You already created this {rtype} repo", "url": url}
    r = Repo(rtype, rid, b.get("visibility") == "private" or bool(b.get("private")))
    ga = b"*.parquet filter=lfs diff=lfs merge=lfs -text\n"
    r.refs["refs/heads/main"] = hub.new_commit(
        r,
        None,
        {".gitattributes": Entry(git_oid(ga), len(ga), hub.put_blob(ga), False)},
        "initial commit",
        "",
        ns,
    )
    hub.repos[rtype, rid] = r
    return {"url": url, "name": rid, "id": rid, "private": r.private}


@route("DELETE", "/api/repos/delete")
def delete(hub, h, m, q):
    b = h.json()
    user, _ = hub.user(h)
    key = (b.get("type") or "model", f"{b.get('organization') or user}/{b['name']}")
    hub.repo(h, *key, write=True)
    del hub.repos[key]
    return {}


@route("POST", "/api/repos/move")
def move(hub, h, m, q):
    b = h.json()
    r = hub.repo(h, b["type"], b["fromRepo"], write=True)
    hub.repos[b["type"], b["toRepo"]] = hub.repos.pop((b["type"], b["fromRepo"]))
    r.id = b["toRepo"]
    return {}


@route("GET", "/api/{T}")
def listing(hub, h, m, q):
    user, _ = hub.user(h)
    return [
        hub.info(r, hub.resolve(r, "main"))
        for (t, i), r in sorted(hub.repos.items())
        if t == TYPES[m["T"]]
        and hub.can_see(r, user)
        and q.get("search", [""])[0] in i
        and (not q.get("author") or i.startswith(q["author"][0] + "/"))
    ]


@route("GET", "/api/{T}/{ID}/auth-check")
def auth_check(hub, h, m, q):
    hub.repo(h, *RID(m))
    return {}


@route("PUT", "/api/{T}/{ID}/settings")
def settings(hub, h, m, q):
    r = hub.repo(h, *RID(m), write=True)
    b = h.json()
    r.settings.update(b)
    if "visibility" in b or "private" in b:
        r.private = b.get("visibility") == "private" or bool(b.get("private"))
    return r.settings


@route("GET", "/api/{T}/{ID}/refs")
def refs(hub, h, m, q):
    r = hub.repo(h, *RID(m))
    pick = lambda pre: [
        {"name": k[len(pre) :] if pre != "refs/pr/" else k, "ref": k, "targetCommit": v}
        for k, v in r.refs.items()
        if k.startswith(pre)
    ]
    return {
        "branches": pick("refs/heads/"),
        "tags": pick("refs/tags/"),
        "converts": pick("refs/convert/"),
        **({"pullRequests": pick("refs/pr/")} if q.get("include_prs") else {}),
    }


@route("POST DELETE", "/api/{T}/{ID}/(?P<K>branch|tag)/{REV}")
def branch_tag(hub, h, m, q):
    r, name = hub.repo(h, *RID(m), write=True), REV(m)
    pre = "refs/heads/" if m["K"] == "branch" else "refs/tags/"
    key = name if name.startswith("refs/") else pre + name
    if h.command == "DELETE":
        if r.refs.pop(key, None) is None:
            raise Err(404, "Reference not found", "RevisionNotFound")
        return {}
    b = h.json() or {}
    if m["K"] == "tag":  # POST .../tag/{revision}  {"tag": name}
        if "refs/tags/" + b["tag"] in r.refs:
            raise Err(409, "Tag reference exists already")
        r.refs["refs/tags/" + b["tag"]] = hub.resolve(r, name).oid
    else:
        if key in r.refs:
            raise Err(409, "Reference already exists")
        r.refs[key] = hub.resolve(r, b.get("startingPoint") or "main").oid
    return {}


@route("POST", "/api/{T}/{ID}/preupload/{REV}")
def preupload(hub, h, m, q):
    pr = bool(q.get("create_pr"))
    r = hub.repo(h, *RID(m), write=True, pr=pr)
    c, out = hub.resolve(r, REV(m)), []
    for f in h.json()["files"]:
        base64.b64decode(f["sample"])
        lfs = bool(hub.LFS_PATTERNS.search(f["path"])) or f["size"] > hub.lfs_above
        e = c.tree.get(f["path"])
        out.append(
            {
                "path": f["path"],
                "uploadMode": "lfs" if lfs else "regular",
                "shouldIgnore": False,
                **({"oid": e.sha256 if e.lfs else e.oid} if e else {}),
            }
        )
    return {"files": out, "commitOid": c.oid}


@route("POST", "/{P}{ID}\\.git/info/lfs/objects/batch")
def lfs_batch(hub, h, m, q):
    rtype = (m["P"] or "models/").rstrip("s/") or "model"
    b = h.json()
    hub.repo(h, rtype, m["ID"], write=b["operation"] == "upload", pr=True)
    out = []
    for o in b["objects"]:
        d = {"oid": o["oid"], "size": o["size"], "authenticated": True}
        if o["oid"] not in hub.blobs:
            verify = {"href": f"{h.base}/{m['P']}{m['ID']}.git/info/lfs/objects/verify", "header": {}}
            if "multipart" in b["transfers"] and o["size"] > hub.multipart_above:
                n = -(-o["size"] // hub.chunk_size)
                hdr = {
                    "chunk_size": str(hub.chunk_size),
                    **{f"{i:05d}": f"{h.cdn}/_s3/{o['oid']}?part={i}" for i in range(1, n + 1)},
                }
                d["actions"] = {
                    "upload": {"href": f"{h.cdn}/_s3/{o['oid']}/complete", "header": hdr},
                    "verify": verify,
                }
            else:
                d["actions"] = {"upload": {"href": f"{h.cdn}/_s3/{o['oid']}", "header": {}}, "verify": verify}
        out.append(d)
    return {"transfer": "multipart" if "multipart" in b["transfers"] else "basic", "objects": out}


@route("POST", "/{P}{ID}\\.git/info/lfs/objects/verify")
def lfs_verify(hub, h, m, q):
    b = h.json()
    if len(hub.blobs.get(b["oid"], b"")) != b["size"]:
        raise Err(404, "LFS object is missing or has another size")
    return {}


@route("PUT", "/_s3/(?P<oid>[0-9a-f]{64})")
def s3_put(hub, h, m, q):
    data = h.body()
    if q.get("part"):
        hub.parts.setdefault(m["oid"], {})[int(q["part"][0])] = data
    elif hub.put_blob(data) != m["oid"]:
        raise Err(400, "sha256 mismatch")
    return 200, b"", {"ETag": '"' + hashlib.md5(data).hexdigest() + '"'}


@route("POST", "/_s3/(?P<oid>[0-9a-f]{64})/complete")
def s3_complete(hub, h, m, q):
    b, parts = h.json(), hub.parts.pop(m["oid"], {})
    if [p["partNumber"] for p in b["parts"]] != sorted(parts) or any(
        p["etag"].strip('"') != hashlib.md5(parts[p["partNumber"]]).hexdigest() for p in b["parts"]
    ):
        raise Err(400, "parts do not match")
    if hub.put_blob(b"".join(parts[i] for i in sorted(parts))) != m["oid"]:
        raise Err(400, "sha256 mismatch")
    return {}


@route("POST", "/api/{T}/{ID}/commit/{REV}")
def commit(hub, h, m, q):
    pr = bool(q.get("create_pr"))
    user, _ = hub.user(h)
    r, rev = hub.repo(h, *RID(m), write=True, pr=pr), REV(m)
    lines = [json.loads(l) for l in h.body().splitlines() if l.strip()]
    head = lines[0]["value"]
    base = hub.resolve(r, rev)
    if head.get("parentCommit") and head["parentCommit"] != base.oid:
        raise Err(412, "A commit has happened since. Please refresh and try again.")
    if rev in r.commits and not pr:
        raise Err(400, "Cannot commit on a commit id")
    tree = dict(base.tree)
    for op in lines[1:]:
        k, v = op["key"], op["value"]
        if k == "file":
            data = base64.b64decode(v["content"]) if v.get("encoding") == "base64" else v["content"].encode()
            tree[v["path"]] = Entry(git_oid(data), len(data), hub.put_blob(data), False)
        elif k == "lfsFile":
            data = hub.blobs.get(v["oid"])
            if data is None and hub.xet_dir:
                data = xet_read(hub, v["oid"], v.get("size"))
            if data is None:
                raise Err(400, f"LFS pointer pointed to a file that does not exist: {v['oid']}")
            tree[v["path"]] = Entry(git_oid(pointer(v["oid"], len(data))), len(data), v["oid"], True)
        elif k == "deletedFile":
            if tree.pop(v["path"], None) is None:
                raise Err(404, "A file with this name doesn't exist", "EntryNotFound")
        elif k == "deletedFolder":
            gone = [p for p in tree if p.startswith(v["path"].rstrip("/") + "/")]
            if not gone:
                raise Err(404, "A folder with this name doesn't exist", "EntryNotFound")
            for p in gone:
                del tree[p]
        else:
            raise Err(400, f"unknown operation {k}")
    out = {"success": True}
    if pr:
        d = hub.open_discussion(r, user, head["summary"], head.get("description"), True, rev)
        ref = f"refs/pr/{d['num']}"
        out["pullRequestUrl"] = (
            f"{h.base}/{m['T'] + '/' if m['T'] != 'models' else ''}{r.id}/discussions/{d['num']}"
        )
    else:
        ref = rev if rev.startswith("refs/") else f"refs/heads/{rev}"
    oid = hub.new_commit(r, base.oid, tree, head["summary"], head.get("description") or "", user)
    r.refs[ref] = oid
    return {
        **out,
        "commitOid": oid,
        "commitUrl": f"{h.base}/{m['T'] + '/' if m['T'] != 'models' else ''}{r.id}/commit/{oid}",
        "hookOutput": "",
    }


@route("GET", "/api/{T}/{ID}/commits/{REV}")
def commits(hub, h, m, q):
    r, out = hub.repo(h, *RID(m)), []
    c = hub.resolve(r, REV(m))
    while c:
        out.append(
            {
                "id": c.oid,
                "title": c.title,
                "message": c.message,
                "authors": [{"user": c.author}],
                "date": c.date,
            }
        )
        c = r.commits.get(c.parent)
    return 200, out, {"X-Total-Count": str(len(out))}


@route("GET", "/api/{T}/{ID}/tree/{REV}(?:/(?P<path>.*))?")
def tree(hub, h, m, q):
    r = hub.repo(h, *RID(m))
    c, path = hub.resolve(r, REV(m)), unquote(m["path"] or "").strip("/")
    rec, exp = [q.get(k, [""])[0].lower() in ("true", "1") for k in ("recursive", "expand")]
    pre = path + "/" if path else ""
    if path and not any(p.startswith(pre) for p in c.tree):
        raise Err(404, f'{path} does not exist on "{REV(m)}"', "EntryNotFound")
    rows = {}
    for p, e in c.tree.items():
        if p.startswith(pre):
            parts = p[len(pre) :].split("/")
            for i in range(1, len(parts)):
                if rec or i == 1:
                    f = pre + "/".join(parts[:i])
                    rows[f] = hub.folder(f, c, exp)
            if rec or len(parts) == 1:
                rows[p] = hub.entry(p, e, c, exp)
    rows = [rows[k] for k in sorted(rows)]
    at, lim = int(q.get("cursor", ["0"])[0]), min(int(q.get("limit", [hub.page])[0]), hub.page)
    hdr = {}
    if at + lim < len(rows):
        hdr["Link"] = (
            f'<{h.base}{h.path.split("?")[0]}?recursive={rec}&expand={exp}&limit={lim}&cursor={at + lim}>; rel="next"'
        )
    return 200, rows[at : at + lim], hdr


@route("POST", "/api/{T}/{ID}/paths-info/{REV}")
def paths_info(hub, h, m, q):
    r = hub.repo(h, *RID(m))
    c = hub.resolve(r, REV(m))
    b = h.json(form=True)
    exp, out = str(b.get("expand", "")).lower() == "true", []
    for p in [b["paths"]] if isinstance(b["paths"], str) else b["paths"]:
        p = p.strip("/")
        if p in c.tree:
            out.append(hub.entry(p, c.tree[p], c, exp))
        elif any(k.startswith(p + "/") for k in c.tree):
            out.append(hub.folder(p, c, exp))
    return out


@route("GET", "/api/{T}/{ID}/xet-(?P<K>read|write)-token/{REV}")
def xet_token(hub, h, m, q):
    r = hub.repo(h, *RID(m), write=m["K"] == "write", pr=bool(q.get("create_pr")))
    if not hub.xet_dir:
        raise Err(404, "Xet is not enabled on this test hub: set HF_HUB_DISABLE_XET=1")
    cas, exp = "local://" + str(hub.xet_dir), int(time.time()) + 3600
    return (
        200,
        {"accessToken": "xet", "casUrl": cas, "exp": exp},
        {"X-Xet-Cas-Url": cas, "X-Xet-Access-Token": "xet", "X-Xet-Token-Expiration": str(exp)},
    )


@route("GET POST", "/api/{T}/{ID}/discussions")
def discussions(hub, h, m, q):
    if h.command == "GET":
        r = hub.repo(h, *RID(m))
        return {
            "discussions": [hub.discussion(r, d) for d in r.discussions],
            "count": len(r.discussions),
            "start": 0,
        }
    r = hub.repo(h, *RID(m), write=True, pr=True)
    b = h.json()
    return {
        "num": hub.open_discussion(
            r, hub.user(h)[0], b["title"], b.get("description"), bool(b.get("pullRequest"))
        )["num"]
    }


@route("GET", "/api/{T}/{ID}/discussions/(?P<num>\\d+)")
def discussion(hub, h, m, q):
    r = hub.repo(h, *RID(m))
    if not 1 <= int(m["num"]) <= len(r.discussions):
        raise Err(404, "Discussion not found")
    return hub.discussion(r, r.discussions[int(m["num"]) - 1])


@route("POST", "/api/{T}/{ID}/discussions/(?P<num>\\d+)/(?P<act>comment|status|merge|title)")
def discussion_act(hub, h, m, q):
    act = m["act"]
    r = hub.repo(h, *RID(m), write=True, pr=act == "comment")
    d, b, user = r.discussions[int(m["num"]) - 1], h.json() or {}, hub.user(h)[0]
    ev = {"id": secrets.token_hex(12), "createdAt": now(), "author": {"name": user}}
    if act == "comment":
        ev.update(type="comment", data={"edited": False, "hidden": False, "latest": {"raw": b["comment"]}})
    elif act == "status":
        d["status"] = b["status"]
        ev.update(type="status-change", data={"status": b["status"]})
    elif act == "title":
        ev.update(type="title-change", data={"from": d["title"], "to": b["title"]})
        d["title"] = b["title"]
    else:
        prc, main = hub.resolve(r, f"refs/pr/{d['num']}"), hub.resolve(r, "main")
        d["merged"] = r.refs["refs/heads/main"] = hub.new_commit(
            r, main.oid, {**main.tree, **prc.tree}, f"{d['title']} (#{d['num']})", "", user
        )
        d["status"] = "merged"
        ev.update(type="status-change", data={"status": "merged"})
    d["events"].append(ev)
    return {"newMessage": ev} if act == "comment" else {"newStatus": ev, "newTitle": ev}


@route("GET", "/api/{T}/{ID}(?:/revision/{REV})?")
def repo_info(hub, h, m, q):
    r = hub.repo(h, *RID(m))
    return hub.info(r, hub.resolve(r, REV(m) if m["REV"] else "main"), bool(q.get("blobs")))


@route("GET HEAD", "/{P}{ID}/resolve/{REV}/(?P<path>.+)")
def resolve(hub, h, m, q):
    rtype = (m["P"] or "models/").rstrip("s/") or "model"
    r = hub.repo(h, rtype, unquote(m["ID"]))
    c, path = hub.resolve(r, REV(m)), unquote(m["path"])
    e = c.tree.get(path)
    hdr = {"X-Repo-Commit": c.oid, "Accept-Ranges": "bytes", "Access-Control-Allow-Origin": "*"}
    if e is None:
        raise Err(404, "Entry not found", "EntryNotFound", hdr)
    if e.lfs:  # as on the Hub: a redirect to the CDN
        hdr.update(
            {
                "X-Linked-Size": str(e.size),
                "X-Linked-ETag": f'"{e.sha256}"',
                "Location": f"{h.cdn}/_cdn/{e.sha256}",
            }
        )
        if e.sha256 in hub.xet_hashes:
            route_ = f"{h.base}/api/{m['P'] or 'models/'}{r.id}/xet-read-token/{c.oid}"
            hdr.update({"X-Xet-Hash": hub.xet_hashes[e.sha256], "Link": f'<{route_}>; rel="xet-auth"'})
        return 302, b"", hdr
    return h.send_blob(hub.blobs[e.sha256], {**hdr, "ETag": f'"{e.oid}"'})


@route("GET HEAD", "/_cdn/(?P<oid>[0-9a-f]{64})")
def cdn(hub, h, m, q):
    return h.send_blob(hub.blobs[m["oid"]], {"ETag": f'"{m["oid"]}"'})


@route("GET HEAD", "/api/(telemetry/.*|agent-harnesses)")
def nothing(hub, h, m, q):
    return {}


def _merkle_hex(b):  # a MerkleHash is 4 little-endian u64s
    return "".join(f"{int.from_bytes(b[i : i + 8], 'little'):016x}" for i in (0, 8, 16, 24))


def xet_files(xet_dir):
    """sha256 -> (xet file hash, size) from the shards (.mdb) that hf_xet wrote to local://xet_dir."""
    out = {}
    for root, _, names in os.walk(xet_dir):
        for n in names:
            if not n.endswith(".mdb"):
                continue
            with open(os.path.join(root, n), "rb") as f:
                b = f.read()
            at = 48  # after the header: the file info section
            while at + 48 <= len(b) and b[at : at + 32] != b"\xff" * 32:
                fhash, flags, k = (
                    b[at : at + 32],
                    int.from_bytes(b[at + 32 : at + 36], "little"),
                    int.from_bytes(b[at + 36 : at + 40], "little"),
                )
                at += 48
                size = sum(int.from_bytes(b[at + 48 * i + 36 : at + 48 * i + 40], "little") for i in range(k))
                at += 48 * k + (48 * k if flags & 1 << 31 else 0)  # data entries, verification entries
                if flags & 1 << 30:  # metadata: the file's sha256
                    out[_merkle_hex(b[at : at + 32])] = (_merkle_hex(fhash), size)
                    at += 48
    return out


def xet_read(hub, sha256, size):
    """Rebuild an uploaded file from the local Xet store, with hf_xet itself, and check its sha256."""
    import tempfile

    import hf_xet

    if sha256 not in (found := xet_files(hub.xet_dir)):
        return None
    h, n = found[sha256]
    with tempfile.TemporaryDirectory() as t:
        if getattr(hub, "_xet", None) is None:
            hub._xet = hf_xet.XetSession()
        with hub._xet.new_file_download_group(
            endpoint="local://" + str(hub.xet_dir),
            token="xet",
            token_expiry_unix_secs=int(time.time()) + 3600,
        ) as g:
            g.start_download_file(hf_xet.XetFileInfo(h, n), os.path.join(t, "f"))
        with open(os.path.join(t, "f"), "rb") as f:
            data = f.read()
    if hub.put_blob(data) != sha256:
        raise Err(400, "xet: sha256 mismatch")
    hub.xet_hashes[sha256] = h
    return data


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub = None

    def body(self):
        if self._body is None:
            if "chunked" in (self.headers.get("transfer-encoding") or ""):
                out = b""
                while n := int(self.rfile.readline().split(b";")[0], 16):
                    out += self.rfile.read(n)
                    self.rfile.readline()
                self.rfile.readline()
                self._body = out
            else:
                self._body = self.rfile.read(int(self.headers.get("content-length") or 0))
        return self._body

    def json(self, form=False):
        raw = self.body()
        if form and "urlencoded" in (self.headers.get("content-type") or ""):
            d = parse_qs(raw.decode())
            return {k: v if k == "paths" else v[0] for k, v in d.items()}
        return json.loads(raw) if raw else None

    def send_blob(self, data, hdr):
        m = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("range") or "")
        hdr = {"Accept-Ranges": "bytes", "Content-Type": "application/octet-stream", **hdr}
        if m:
            a, b = m[1], m[2]
            a, b = (
                (int(a), min(int(b), len(data) - 1) if b else len(data) - 1)
                if a
                else (max(0, len(data) - int(b)), len(data) - 1)
            )
            if a >= len(data):
                return 416, b"", {**hdr, "Content-Range": f"bytes */{len(data)}"}
            return 206, data[a : b + 1], {**hdr, "Content-Range": f"bytes {a}-{b}/{len(data)}"}
        return 200, data, hdr

    def handle_any(self):
        self._body, u = None, urlsplit(self.path)
        self.base, q = f"http://{self.headers.get('host')}", parse_qs(u.query)
        self.cdn = (
            self.hub.cdn_url
        )  # another origin, as on the Hub: no redirect is followed on HEAD, no token is sent
        try:
            self.body()
            if self.hub.fail_next:  # [(status, message)]: failure injection for retry tests
                raise Err(*self.hub.fail_next.pop(0))
            for meth, rx, f in ROUTES:
                m = rx.match(u.path) if meth == self.command else None
                if m:
                    with self.hub.lock:
                        g = {"REV": None, "P": "", **m.groupdict()}
                        res = f(self.hub, self, g, q)
                    break
            else:
                raise Err(404, f"no route on this test hub: {self.command} {u.path}")
        except Err as e:
            res = (
                e.status,
                {"error": e.msg},
                {"X-Error-Message": e.msg, **({"X-Error-Code": e.code} if e.code else {}), **e.headers},
            )
        except Exception as e:  # a bug here must be seen by the test
            import traceback

            traceback.print_exc()
            res = 500, {"error": repr(e)}, {}
        if not isinstance(res, tuple):
            res = 200, res, {}
        status, payload, hdr = (*res, {})[:3]
        self.hub.log.append((self.command, self.path, status, (self._body or b"")[:2000]))
        if not isinstance(payload, bytes):
            payload, hdr = (
                json.dumps(payload).encode(),
                {"Content-Type": "application/json; charset=utf-8", **hdr},
            )
        self.send_response(status)
        for k, v in hdr.items():
            self.send_header(k, v)
        self.send_header("Content-Length", str(len(payload)))
        self.send_header("X-Request-Id", secrets.token_hex(8))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(payload)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = handle_any

    def log_message(self, *a):
        pass


class MiniHub:
    def __init__(self, port=0, cdn_host="127.0.0.2", **kw):
        self.hub = Hub(**kw)
        handler = type("H", (Handler,), {"hub": self.hub})
        self.server = ThreadingHTTPServer(("127.0.0.1", port), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.cdn = ThreadingHTTPServer(
            (cdn_host, 0), handler
        )  # another HOST: hub 1.x follows redirects to another port of the same one
        self.cdn.daemon_threads = True
        self.hub.cdn_url = f"http://{cdn_host}:{self.cdn.server_address[1]}"

    def __getattr__(self, k):
        return getattr(self.__dict__["hub"], k)

    def __enter__(self):
        for s in (self.server, self.cdn):
            threading.Thread(target=s.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *a):
        for s in (self.server, self.cdn):
            s.shutdown()
            s.server_close()


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("--port", type=int, default=0)
    ap.add_argument("--xet-dir")
    a = ap.parse_args()
    s = MiniHub(a.port, xet_dir=a.xet_dir)
    print(json.dumps({"url": s.url, "token": "hf_admin"}), flush=True)
    threading.Thread(target=s.cdn.serve_forever, daemon=True).start()
    s.server.serve_forever()
