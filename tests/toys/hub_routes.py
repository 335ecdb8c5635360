"""The Hub's HTTP interface, a function a route: each takes the hub, the request and its arguments.

A route returns what is sent as JSON, or a status with it, or these and headers; bytes are sent as they are.
"""

import base64
import hashlib
import json
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import yaml

from toys.hub_repos import FRONT_MATTER
from toys.hub_repos import LFS
from toys.hub_repos import TYPES
from toys.hub_repos import UNAUTHORIZED
from toys.hub_repos import Entry
from toys.hub_repos import Hub
from toys.hub_repos import HubError
from toys.hub_repos import Repo
from toys.hub_repos import event
from toys.hub_repos import folder_info

Arguments = dict[str, str]  # the named groups of a route's pattern
Query = dict[str, list[str]]
Route = Callable[..., Any]

ROUTES: list[tuple[str, re.Pattern[str], Route]] = []
_PLACES = {
    "{kinds}": "(?P<kinds>models|datasets|spaces)",
    "{repo}": r"(?P<repo>[^/]+/[^/]+?)",
    "{revision}": "(?P<revision>[^/]+)",
    "{prefix}": "(?P<prefix>datasets/|spaces/|)",  # of an address outside /api
}


def route(methods: str, pattern: str) -> Callable[[Route], Route]:
    for place, group in _PLACES.items():
        pattern = pattern.replace(place, group)

    def add(function: Route) -> Route:
        ROUTES.extend((method, re.compile(f"^{pattern}$"), function) for method in methods.split())
        return function

    return add


def _named(arguments: Arguments) -> tuple[str, str]:
    """The kind and the id of the repository in an address."""
    kinds = arguments.get("kinds") or (arguments["prefix"] or "models/").rstrip("/")
    return TYPES[kinds], unquote(arguments["repo"])


def _flag(query: Query, name: str) -> bool:
    return query.get(name, [""])[0].lower() in ("true", "1")


# --- users and repositories -----------------------------------------------------------------


@route("GET", "/api/whoami-v2")
def whoami(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    user, role = hub.user(request)
    if not user:
        raise HubError(401, "Invalid username or password.", headers=UNAUTHORIZED)
    orgs = [
        {"type": "org", "name": org, "fullname": org, "roleInOrg": "write"}
        for org in hub.orgs
        if user in hub.members
    ]
    return {
        "type": "user",
        "id": user,
        "name": user,
        "fullname": user,
        "email": f"{user}@example.invalid",
        "emailVerified": True,
        "isPro": False,
        "orgs": orgs,
        "auth": {"type": "access_token", "accessToken": {"displayName": "t", "role": role}},
    }


@route("POST", "/api/validate-yaml")
def validate_yaml(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    errors = []
    if head := FRONT_MATTER.match(request.json()["content"]):
        try:
            yaml.safe_load(head[1])
        except yaml.YAMLError as error:
            errors = [{"message": f"YAML: {error}"}]
    return (400 if errors else 200), {"errors": errors, "warnings": []}


@route("POST", "/api/repos/create")
def create(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    body = request.json()
    user, role = hub.user(request)
    if not user:
        raise HubError(401, "Unauthorized", headers=UNAUTHORIZED)
    namespace, kind = body.get("organization") or user, body.get("type") or "model"
    if role != "write" or not hub.owns(user, namespace):
        message = f'You don\'t have the rights to create a {kind} under the namespace "{namespace}"'
        raise HubError(403, message)
    repo_id = f"{namespace}/{body['name']}"
    url = f"{request.base}/{'' if kind == 'model' else kind + 's/'}{repo_id}"
    if (kind, repo_id) in hub.repos:
        return 409, {"error": f"You already created this {kind} repo", "url": url}
    repo = Repo(kind, repo_id, body.get("visibility") == "private" or bool(body.get("private")))
    attributes = hub.put_file(b"*.parquet filter=lfs diff=lfs merge=lfs -text\n")
    first = repo.commit(None, {".gitattributes": attributes}, "initial commit", "", namespace)
    repo.refs["refs/heads/main"] = first
    hub.repos[kind, repo_id] = repo
    return {"url": url, "name": repo_id, "id": repo_id, "private": repo.private}


@route("DELETE", "/api/repos/delete")
def delete(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    body = request.json()
    user, _ = hub.user(request)
    key = (body.get("type") or "model", f"{body.get('organization') or user}/{body['name']}")
    hub.repo(request, *key, write=True)
    del hub.repos[key]
    return {}


@route("POST", "/api/repos/move")
def move(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    body = request.json()
    repo = hub.repo(request, body["type"], body["fromRepo"], write=True)
    hub.repos[body["type"], body["toRepo"]] = hub.repos.pop((body["type"], body["fromRepo"]))
    repo.id = body["toRepo"]
    return {}


@route("GET", "/api/{kinds}")
def search(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    user, _ = hub.user(request)
    return [
        hub.repo_info(repo, repo.resolve("main"))
        for (kind, repo_id), repo in sorted(hub.repos.items())
        if kind == TYPES[arguments["kinds"]]
        and (not repo.private or hub.owns(user, repo.namespace))
        and query.get("search", [""])[0] in repo_id
        and (not query.get("author") or repo_id.startswith(query["author"][0] + "/"))
    ]


@route("GET", "/api/{kinds}/{repo}/auth-check")
def auth_check(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    hub.repo(request, *_named(arguments))
    return {}


@route("PUT", "/api/{kinds}/{repo}/settings")
def settings(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    repo = hub.repo(request, *_named(arguments), write=True)
    body = request.json()
    repo.settings.update(body)
    if "visibility" in body or "private" in body:
        repo.private = body.get("visibility") == "private" or bool(body.get("private"))
    return repo.settings


# --- refs -----------------------------------------------------------------------------------


@route("GET", "/api/{kinds}/{repo}/refs")
def refs(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    repo = hub.repo(request, *_named(arguments))

    def below(prefix: str, cut: int) -> list[dict[str, str]]:
        return [
            {"name": ref[cut:], "ref": ref, "targetCommit": oid}
            for ref, oid in repo.refs.items()
            if ref.startswith(prefix)
        ]

    pull_requests = {"pullRequests": below("refs/pr/", 0)} if query.get("include_prs") else {}
    return {
        "branches": below("refs/heads/", len("refs/heads/")),
        "tags": below("refs/tags/", len("refs/tags/")),
        "converts": below("refs/convert/", len("refs/convert/")),
        **pull_requests,
    }


@route("DELETE", "/api/{kinds}/{repo}/(?P<what>branch|tag)/{revision}")
def delete_ref(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    repo = hub.repo(request, *_named(arguments), write=True)
    ref = _ref(arguments["what"], unquote(arguments["revision"]))
    if repo.refs.pop(ref, None) is None:
        raise HubError(404, "Reference not found", "RevisionNotFound")
    return {}


@route("POST", "/api/{kinds}/{repo}/branch/{revision}")
def create_branch(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    repo = hub.repo(request, *_named(arguments), write=True)
    ref = _ref("branch", unquote(arguments["revision"]))
    if ref in repo.refs:
        raise HubError(409, "Reference already exists")
    body = request.json() or {}
    repo.refs[ref] = repo.resolve(body.get("startingPoint") or "main").oid
    return {}


@route("POST", "/api/{kinds}/{repo}/tag/{revision}")
def create_tag(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    repo = hub.repo(request, *_named(arguments), write=True)
    ref = f"refs/tags/{request.json()['tag']}"
    if ref in repo.refs:
        raise HubError(409, "Tag reference exists already")
    repo.refs[ref] = repo.resolve(unquote(arguments["revision"])).oid
    return {}


def _ref(what: str, name: str) -> str:
    return name if name.startswith("refs/") else f"refs/{'heads' if what == 'branch' else 'tags'}/{name}"


# --- uploads --------------------------------------------------------------------------------


@route("POST", "/api/{kinds}/{repo}/preupload/{revision}")
def preupload(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    repo = hub.repo(request, *_named(arguments), write=True, by_pull_request=bool(query.get("create_pr")))
    commit = repo.resolve(unquote(arguments["revision"]))
    files = []
    for file in request.json()["files"]:
        base64.b64decode(file["sample"])
        lfs = bool(LFS.search(file["path"])) or file["size"] > hub.lfs_above
        entry = commit.tree.get(file["path"])
        oid = {"oid": entry.sha256 if entry.lfs else entry.oid} if entry else {}
        mode = "lfs" if lfs else "regular"
        files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, **oid})
    return {"files": files, "commitOid": commit.oid}


@route("POST", "/{prefix}{repo}\\.git/info/lfs/objects/batch")
def lfs_batch(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    body = request.json()
    hub.repo(request, *_named(arguments), write=body["operation"] == "upload", by_pull_request=True)
    multipart = "multipart" in body["transfers"]
    address = f"{request.base}/{arguments['prefix']}{arguments['repo']}.git/info/lfs/objects/verify"
    objects = []
    for wanted in body["objects"]:
        answer = {"oid": wanted["oid"], "size": wanted["size"], "authenticated": True}
        if wanted["oid"] not in hub.blobs:
            answer["actions"] = {
                "upload": _upload(hub, wanted["oid"], wanted["size"], multipart=multipart),
                "verify": {"href": address, "header": {}},
            }
        objects.append(answer)
    return {"transfer": "multipart" if multipart else "basic", "objects": objects}


def _upload(hub: Hub, oid: str, size: int, *, multipart: bool) -> dict[str, Any]:
    """Where a file's bytes go: to one address, or its parts to one each."""
    href = f"{hub.cdn_url}/_s3/{oid}"
    if not multipart or size <= hub.multipart_above:
        return {"href": href, "header": {}}
    numbers = range(1, -(-size // hub.chunk_size) + 1)
    parts = {f"{number:05d}": f"{href}?part={number}" for number in numbers}
    return {"href": f"{href}/complete", "header": {"chunk_size": str(hub.chunk_size), **parts}}


@route("POST", "/{prefix}{repo}\\.git/info/lfs/objects/verify")
def lfs_verify(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    body = request.json()
    if len(hub.blobs.get(body["oid"], b"")) != body["size"]:
        raise HubError(404, "LFS object is missing or has another size")
    return {}


@route("PUT", "/_s3/(?P<oid>[0-9a-f]{64})")
def put_object(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    data = request.body()
    if query.get("part"):
        hub.parts.setdefault(arguments["oid"], {})[int(query["part"][0])] = data
    elif hub.put_blob(data) != arguments["oid"]:
        raise HubError(400, "sha256 mismatch")
    return 200, b"", {"ETag": f'"{hashlib.md5(data).hexdigest()}"'}


@route("POST", "/_s3/(?P<oid>[0-9a-f]{64})/complete")
def complete_object(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    parts = hub.parts.pop(arguments["oid"], {})
    uploaded = {part["partNumber"]: part["etag"].strip('"') for part in request.json()["parts"]}
    if uploaded != {number: hashlib.md5(data).hexdigest() for number, data in parts.items()}:
        raise HubError(400, "parts do not match")
    if hub.put_blob(b"".join(parts[number] for number in sorted(parts))) != arguments["oid"]:
        raise HubError(400, "sha256 mismatch")
    return {}


@route("POST", "/api/{kinds}/{repo}/commit/{revision}")
def commit(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    is_pr = bool(query.get("create_pr"))
    user, _ = hub.user(request)
    repo = hub.repo(request, *_named(arguments), write=True, by_pull_request=is_pr)
    revision = unquote(arguments["revision"])
    head, *operations = [json.loads(line) for line in request.body().splitlines() if line.strip()]
    about, base = head["value"], repo.resolve(revision)
    if about.get("parentCommit") and about["parentCommit"] != base.oid:
        raise HubError(412, "A commit has happened since. Please refresh and try again.")
    if revision in repo.commits and not is_pr:
        raise HubError(400, "Cannot commit on a commit id")
    tree = dict(base.tree)
    for operation in operations:
        _apply(hub, tree, operation["key"], operation["value"])
    page = f"{request.base}/{'' if arguments['kinds'] == 'models' else arguments['kinds'] + '/'}{repo.id}"
    answer = {"success": True, "hookOutput": ""}
    description = about.get("description") or ""
    if is_pr:
        number = repo.open_discussion(user, about["summary"], description, is_pr=True, base=revision)["num"]
        ref = f"refs/pr/{number}"
        answer["pullRequestUrl"] = f"{page}/discussions/{number}"
    else:
        ref = revision if revision.startswith("refs/") else f"refs/heads/{revision}"
    oid = repo.commit(base.oid, tree, about["summary"], description, user)
    repo.refs[ref] = oid
    return {**answer, "commitOid": oid, "commitUrl": f"{page}/commit/{oid}"}


def _apply(hub: Hub, tree: dict[str, Entry], key: str, value: dict[str, Any]) -> None:
    """Make one operation of a commit."""
    path = value["path"]
    if key == "file":
        is_base64 = value.get("encoding") == "base64"
        data = base64.b64decode(value["content"]) if is_base64 else value["content"].encode()
        tree[path] = hub.put_file(data)
    elif key == "lfsFile":
        tree[path] = hub.lfs_file(value["oid"])
    elif key == "deletedFile":
        if tree.pop(path, None) is None:
            raise HubError(404, "A file with this name doesn't exist", "EntryNotFound")
    elif key == "deletedFolder":
        inside = [file for file in tree if file.startswith(path.rstrip("/") + "/")]
        if not inside:
            raise HubError(404, "A folder with this name doesn't exist", "EntryNotFound")
        for file in inside:
            del tree[file]
    else:
        raise HubError(400, f"unknown operation {key}")


# --- listings -------------------------------------------------------------------------------


@route("GET", "/api/{kinds}/{repo}/commits/{revision}")
def commits(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    repo = hub.repo(request, *_named(arguments))
    commit, history = repo.resolve(unquote(arguments["revision"])), []
    while commit:
        authors = [{"user": commit.author}]
        history.append(
            {
                "id": commit.oid,
                "title": commit.title,
                "message": commit.message,
                "authors": authors,
                "date": commit.date,
            }
        )
        commit = repo.commits.get(commit.parent) if commit.parent else None
    return 200, history, {"X-Total-Count": str(len(history))}


@route("GET", "/api/{kinds}/{repo}/tree/{revision}(?:/(?P<path>.*))?")
def tree(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    repo, revision = hub.repo(request, *_named(arguments)), unquote(arguments["revision"])
    commit, path = repo.resolve(revision), unquote(arguments["path"] or "").strip("/")
    recursive, expand = _flag(query, "recursive"), _flag(query, "expand")
    above = f"{path}/" if path else ""
    if path and not any(file.startswith(above) for file in commit.tree):
        raise HubError(404, f'{path} does not exist on "{revision}"', "EntryNotFound")
    infos = {}
    for file, entry in commit.tree.items():
        if not file.startswith(above):
            continue
        *folders, _ = file[len(above) :].split("/")
        for depth in range(1, len(folders) + 1 if recursive else min(len(folders), 1) + 1):
            folder = above + "/".join(folders[:depth])
            infos[folder] = folder_info(folder, commit, expand=expand)
        if recursive or not folders:
            infos[file] = hub.file_info(file, entry, commit, expand=expand)
    start = int(query.get("cursor", ["0"])[0])
    limit = min(int(query.get("limit", [hub.page])[0]), hub.page)
    headers = {}
    if start + limit < len(infos):
        address = f"{request.base}{request.path.split('?')[0]}?recursive={recursive}&expand={expand}"
        headers["Link"] = f'<{address}&limit={limit}&cursor={start + limit}>; rel="next"'
    return 200, [infos[path] for path in sorted(infos)][start : start + limit], headers


@route("POST", "/api/{kinds}/{repo}/paths-info/{revision}")
def paths_info(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    repo = hub.repo(request, *_named(arguments))
    commit = repo.resolve(unquote(arguments["revision"]))
    body = request.json(form=True)
    expand, infos = str(body.get("expand", "")).lower() == "true", []
    paths = [body["paths"]] if isinstance(body["paths"], str) else body["paths"]
    for path in (path.strip("/") for path in paths):
        if path in commit.tree:
            infos.append(hub.file_info(path, commit.tree[path], commit, expand=expand))
        elif any(file.startswith(path + "/") for file in commit.tree):
            infos.append(folder_info(path, commit, expand=expand))
    return infos


@route("GET", "/api/{kinds}/{repo}(?:/revision/{revision})?")
def repo_info(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    repo = hub.repo(request, *_named(arguments))
    revision = unquote(arguments["revision"]) if arguments["revision"] else "main"
    return hub.repo_info(repo, repo.resolve(revision), blobs=bool(query.get("blobs")))


@route("GET", "/api/{kinds}/{repo}/xet-(?P<access>read|write)-token/{revision}")
def xet_token(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    """The token that sends hf_xet to a folder of this machine."""
    by_pull_request = bool(query.get("create_pr"))
    write = arguments["access"] == "write"
    hub.repo(request, *_named(arguments), write=write, by_pull_request=by_pull_request)
    if hub.xet_dir is None:
        raise HubError(404, "Xet is not enabled on this test hub: set HF_HUB_DISABLE_XET=1")
    address, expiry = f"local://{hub.xet_dir}", int(time.time()) + 3600
    headers = {
        "X-Xet-Cas-Url": address,
        "X-Xet-Access-Token": "xet",
        "X-Xet-Token-Expiration": str(expiry),
    }
    return 200, {"accessToken": "xet", "casUrl": address, "exp": expiry}, headers


# --- discussions ----------------------------------------------------------------------------


@route("GET", "/api/{kinds}/{repo}/discussions")
def discussions(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    repo = hub.repo(request, *_named(arguments))
    shown = [_discussion(repo, discussion) for discussion in repo.discussions]
    return {"discussions": shown, "count": len(shown), "start": 0}


@route("POST", "/api/{kinds}/{repo}/discussions")
def open_discussion(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    repo = hub.repo(request, *_named(arguments), write=True, by_pull_request=True)
    body, (user, _) = request.json(), hub.user(request)
    is_pr = bool(body.get("pullRequest"))
    opened = repo.open_discussion(user, body["title"], body.get("description"), is_pr=is_pr)
    return {"num": opened["num"]}


@route("GET", "/api/{kinds}/{repo}/discussions/(?P<number>\\d+)")
def discussion(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    repo, number = hub.repo(request, *_named(arguments)), int(arguments["number"])
    if not 1 <= number <= len(repo.discussions):
        raise HubError(404, "Discussion not found")
    return _discussion(repo, repo.discussions[number - 1])


@route("POST", "/api/{kinds}/{repo}/discussions/(?P<number>\\d+)/(?P<act>comment|status|merge|title)")
def change_discussion(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    act = arguments["act"]
    repo = hub.repo(request, *_named(arguments), write=True, by_pull_request=act == "comment")
    discussion = repo.discussions[int(arguments["number"]) - 1]
    body, (user, _) = request.json() or {}, hub.user(request)
    if act == "comment":
        change = event(user, "comment", edited=False, hidden=False, latest={"raw": body["comment"]})
        discussion["events"].append(change)
        return {"newMessage": change}
    if act == "title":
        change = event(user, "title-change", **{"from": discussion["title"], "to": body["title"]})
        discussion["title"] = body["title"]
    elif act == "status":
        discussion["status"] = body["status"]
        change = event(user, "status-change", status=body["status"])
    else:
        branch, main = repo.resolve(f"refs/pr/{discussion['num']}"), repo.resolve("main")
        title = f"{discussion['title']} (#{discussion['num']})"
        merged = repo.commit(main.oid, {**main.tree, **branch.tree}, title, "", user)
        discussion["merged"] = repo.refs["refs/heads/main"] = merged
        discussion["status"] = "merged"
        change = event(user, "status-change", status="merged")
    discussion["events"].append(change)
    return {"newStatus": change, "newTitle": change}


def _discussion(repo: Repo, discussion: dict[str, Any]) -> dict[str, Any]:
    keys = ("num", "title", "status", "isPullRequest", "createdAt", "events")
    merged = {"mergeCommitId": discussion["merged"]} if discussion.get("merged") else {}
    return {
        **{key: discussion[key] for key in keys},
        "author": {"name": discussion["author"]},
        "repo": {"name": repo.id, "type": repo.type},
        "filesWithConflicts": [],
        "diff": "",
        "changes": {"base": "refs/heads/main", **merged},
    }


# --- downloads ------------------------------------------------------------------------------


@route("GET HEAD", "/{prefix}{repo}/resolve/{revision}/(?P<path>.+)")
def resolve(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    repo = hub.repo(request, *_named(arguments))
    commit = repo.resolve(unquote(arguments["revision"]))
    entry = commit.tree.get(unquote(arguments["path"]))
    headers = {
        "X-Repo-Commit": commit.oid,
        "Accept-Ranges": "bytes",
        "Access-Control-Allow-Origin": "*",
    }
    if entry is None:
        raise HubError(404, "Entry not found", "EntryNotFound", headers)
    if not entry.lfs:
        return request.send_blob(hub.blobs[entry.sha256], {**headers, "ETag": f'"{entry.oid}"'})
    headers["X-Linked-Size"] = str(entry.size)
    headers["X-Linked-ETag"] = f'"{entry.sha256}"'
    if entry.sha256 in hub.xet_hashes:
        prefix = arguments["prefix"] or "models/"
        token = f"{request.base}/api/{prefix}{repo.id}/xet-read-token/{commit.oid}"
        headers["X-Xet-Hash"] = hub.xet_hashes[entry.sha256]
        headers["Link"] = f'<{token}>; rel="xet-auth"'
    headers["Location"] = f"{hub.cdn_url}/_cdn/{entry.sha256}"  # as on the Hub
    return 302, b"", headers


@route("GET HEAD", "/_cdn/(?P<oid>[0-9a-f]{64})")
def cdn(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    return request.send_blob(hub.blobs[arguments["oid"]], {"ETag": f'"{arguments["oid"]}"'})


@route("GET HEAD", "/api/(telemetry/.*|agent-harnesses)")
def nothing(hub: Hub, request: Any, arguments: Arguments, query: Query) -> Any:
    return {}
