"""A small Hub on loopback: the part of its protocol that `apps.hub` uses, with faults."""

import base64
import hashlib
import json
import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

TOKEN = "hf_loopbackOnlyNotARealToken0123"
LARGE = (".mp4", ".parquet", ".safetensors", ".onnx")


@dataclass(frozen=True)
class Blob:
    """A file of a commit."""

    data: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def oid(self) -> str:
        """Git's hash of the file, or of the pointer that stands for a large one."""
        data = f"pointer to {self.sha256}".encode() if self.large else self.data
        return hashlib.sha1(b"blob %d\0%b" % (len(data), data)).hexdigest()

    def entry(self, path: str) -> dict[str, Any]:
        large = (
            {"lfs": {"oid": self.sha256, "size": len(self.data), "pointerSize": 130}} if self.large else {}
        )
        return {"type": "file", "path": path, "oid": self.oid, "size": len(self.data), **large}


@dataclass
class Repo:
    """Commits in order: hash and files."""

    private: bool = False
    commits: list[tuple[str, dict[str, Blob]]] = field(default_factory=list)

    def commit(self, files: dict[str, Blob]) -> str:
        facts = f"{len(self.commits)} {sorted((path, blob.oid) for path, blob in files.items())}"
        self.commits.append((hashlib.sha1(facts.encode()).hexdigest(), files))
        return self.commits[-1][0]

    def at(self, revision: str) -> tuple[str, dict[str, Blob]] | None:
        if revision in ("main", ""):
            return self.commits[-1]
        return next((commit for commit in self.commits if commit[0].startswith(revision)), None)


class Hub(ThreadingHTTPServer):
    """The server; its attributes are what tests set and look at.

    Attributes:
        repos: ("dataset" or "model", name) to Repo.
        stored: SHA-256 to content of large files that were uploaded whole.
        cut: names of large files (by SHA-256) whose upload loses its connection halfway.
        damaged: path in a repository to what is sent instead of its content.
        refused: part of a path to [status, headers, how many times].
        requests: "METHOD path" in order; served: how often each path was sent to a client.
        trusted: paths that were asked for with a token.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.repos: dict[tuple[str, str], Repo] = {}
        self.stored: dict[str, bytes] = {}
        self.cut: set[str] = set()
        self.damaged: dict[str, bytes] = {}
        self.refused: dict[str, list[Any]] = {}
        self.requests: list[str] = []
        self.trusted: set[str] = set()
        self.uploads: Counter[str] = Counter()
        self.served: Counter[str] = Counter()
        self.lock = threading.Lock()

    def handle_error(self, *_: object) -> None:
        """A connection that was cut on purpose is no news."""

    def dataset(self, name: str) -> Repo:
        return self.repos["dataset", name]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # head and body in one packet: two would wait for each other
    server: Hub

    def log_message(self, *_: object) -> None:
        """Nothing on standard error."""

    def handle_any(self) -> None:
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        with self.server.lock:
            self.server.requests.append(f"{self.command} {path}")
            if "Authorization" in self.headers:
                self.server.trusted.add(path)
        if path.startswith("/lfs/") and path.removeprefix("/lfs/") in self.server.cut:
            self.rfile.read(int(self.headers["Content-Length"]) // 2)
            self.close_connection = True
            self.connection.close()
            return
        body = self._body()
        for part, refusal in self.server.refused.items():
            if part in f"{self.command} {path}" and refusal[2] > 0:
                refusal[2] -= 1
                self.answer({"error": "no"}, refusal[0], refusal[1])
                return
        with self.server.lock:
            for pattern, method in _ROUTES:
                match = re.fullmatch(pattern, f"{self.command} {path}")
                if match:
                    getattr(self, method)(body, query, **match.groupdict())
                    return
        self.answer({"error": f"no such place: {path}"}, 404)

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def _body(self) -> bytes:
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            body = b""
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return body
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def answer(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def known(self) -> bool:
        """Whether the request carries the token; answers 401 if not. The error repeats what was sent."""
        sent = self.headers.get("Authorization", "")
        if sent == f"Bearer {TOKEN}":
            return True
        self.answer({"error": f"Invalid credentials in Authorization header {sent}"}, 401)
        return False

    def repo(self, kind: str | None, name: str, revision: str = "main") -> tuple[str, dict[str, Blob]] | None:
        """A commit of a repository; answers the error if there is none."""
        found = self.server.repos.get(((kind or "model").removesuffix("/").removesuffix("s"), name))
        hidden = found and found.private and self.headers.get("Authorization") != f"Bearer {TOKEN}"
        if found is None or hidden:
            self.answer({"error": "Repository not found"}, 401, {"X-Error-Code": "RepoNotFound"})
            return None
        commit = found.at(revision)
        if commit is None:
            self.answer({"error": "Invalid rev id"}, 404, {"X-Error-Code": "RevisionNotFound"})
        return commit

    def create(self, body: bytes, query: dict) -> None:
        if not self.known():
            return
        asked = json.loads(body)
        kind, name = asked.get("type", "model"), f"{asked.get('organization') or 'me'}/{asked['name']}"
        new = (kind, name) not in self.server.repos
        if new:
            repo = self.server.repos[kind, name] = Repo(asked.get("visibility") == "private")
            repo.commit({".gitattributes": Blob(b"*.mp4 filter=lfs\n", False)})
        self.answer({"url": f"{self.server.url}/{name}"}, 200 if new else 409)

    def whoami(self, body: bytes, query: dict) -> None:
        if self.known():
            self.answer({"name": "me", "type": "user"})

    def validate(self, body: bytes, query: dict) -> None:
        head = json.loads(body)["content"].split("---")[1]
        wrong = (
            [] if "license: " in head and "nonsense" not in head else [{"message": '"license" is unknown'}]
        )
        self.answer({"errors": wrong, "warnings": []}, 400 if wrong else 200)

    def info(self, body: bytes, query: dict, kind: str, name: str, revision: str = "main") -> None:
        commit = self.repo(kind, name, revision or "main")
        if commit:
            private = self.server.repos[kind, name].private
            files = [{"rfilename": path} for path in commit[1]]
            self.answer({"id": name, "sha": commit[0], "private": private, "tags": [], "siblings": files})

    def tree(self, body: bytes, query: dict, kind: str, name: str, revision: str, folder: str | None) -> None:
        commit = self.repo(kind, name, revision)
        if not commit:
            return
        inside = f"{folder.strip('/')}/" if folder and folder.strip("/") else ""
        deep = query.get("recursive", ["false"])[0].lower() in ("true", "1")
        listed = [blob.entry(path) for path, blob in commit[1].items() if path.startswith(inside)]
        parents = {
            path.rsplit("/", depth)[0] for path in commit[1] for depth in range(1, path.count("/") + 1)
        }
        listed += [
            {"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(parents)
        ]
        listed = [entry for entry in listed if entry["path"].startswith(inside) and entry["path"] != inside]
        self.answer([entry for entry in listed if deep or "/" not in entry["path"].removeprefix(inside)])

    def paths(self, body: bytes, query: dict, kind: str, name: str, revision: str) -> None:
        commit = self.repo(kind, name, revision)
        if commit:
            asked = json.loads(body)["paths"] if body[:1] == b"{" else parse_qs(body.decode())["paths"]
            found = [commit[1][path].entry(path) for path in asked if path in commit[1]]
            folders = [
                p for p in asked if p not in commit[1] and any(f.startswith(f"{p}/") for f in commit[1])
            ]
            self.answer(found + [{"type": "directory", "path": path, "oid": "0" * 40} for path in folders])

    def preupload(self, body: bytes, query: dict, kind: str, name: str, revision: str) -> None:
        commit = self.repo(kind, name, revision) if self.known() else None
        if not commit:
            return
        files = []
        for file in json.loads(body)["files"]:
            there = commit[1].get(file["path"])
            oid = None if there is None else there.sha256 if there.large else there.oid
            mode = "lfs" if file["path"].endswith(LARGE) else "regular"
            files.append({"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self.answer({"files": files})

    def batch(self, body: bytes, query: dict, kind: str | None, name: str) -> None:
        if not self.known():
            return
        objects = []
        for wanted in json.loads(body)["objects"]:
            place = {"upload": {"href": f"{self.server.url}/lfs/{wanted['oid']}"}}
            known = {} if wanted["oid"] in self.server.stored else {"actions": place}
            objects.append({**wanted, **known})
        self.answer({"transfer": "basic", "objects": objects})

    def put(self, body: bytes, query: dict, oid: str) -> None:
        assert hashlib.sha256(body).hexdigest() == oid
        self.server.stored[oid] = body
        self.server.uploads[oid] += 1
        self.answer({})

    def commit(self, body: bytes, query: dict, kind: str, name: str, revision: str) -> None:
        at = self.repo(kind, name, revision) if self.known() else None
        if not at:
            return
        files = dict(at[1])
        for line in body.splitlines():
            item = json.loads(line)
            value = item["value"]
            if item["key"] == "header" and value.get("parentCommit", at[0]) != at[0]:
                self.answer({"error": "A commit has happened since."}, 412)
                return
            if item["key"] == "file":
                files[value["path"]] = Blob(base64.b64decode(value["content"]), False)
            elif item["key"] == "lfsFile":
                files[value["path"]] = Blob(self.server.stored[value["oid"]], True)
            elif item["key"] == "deletedFile":
                del files[value["path"]]
        sha = self.server.repos[kind, name].commit(files)
        self.answer({"commitUrl": f"{self.server.url}/{name}/commit/{sha}", "commitOid": sha})

    def resolve(
        self, body: bytes, query: dict, kind: str | None, name: str, revision: str, path: str
    ) -> None:
        commit = self.repo(kind, name, revision)
        if not commit:
            return
        blob = commit[1].get(path)
        if blob is None:
            self.answer({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
            return
        data = self.server.damaged.get(path, blob.data)
        etag = blob.sha256 if blob.large else blob.oid
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": commit[0], "Accept-Ranges": "bytes"}
        if self.command == "GET":
            self.server.served[path] += 1
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if not asked:
            self.answer(data, 200, headers)
            return
        first, last = int(asked[1]), int(asked[2] or len(data) - 1)
        part = data[first : last + 1]
        headers["Content-Range"] = f"bytes {first}-{first + len(part) - 1}/{len(data)}"
        self.answer(part, 206, headers)

    def github_tree(self, body: bytes, query: dict, name: str, revision: str) -> None:
        commit = self.repo("github", name, revision)
        if commit:
            files = [
                {"path": p, "type": "blob", "size": len(b.data), "sha": b.oid} for p, b in commit[1].items()
            ]
            self.answer({"sha": commit[0], "tree": files})

    def github_raw(self, body: bytes, query: dict, name: str, revision: str, path: str) -> None:
        self.resolve(body, query, "github", name, revision, path)


_NAME = r"(?P<name>[\w.-]+/[\w.-]+)"
_API = rf"/api/(?P<kind>dataset|model)s/{_NAME}"
_ROUTES = (
    (r"GET /api/whoami-v2", "whoami"),
    (r"POST /api/repos/create", "create"),
    (r"POST /api/validate-yaml", "validate"),
    (rf"GET {_API}/tree/(?P<revision>[^/]+)(?P<folder>/.*)?", "tree"),
    (rf"POST {_API}/paths-info/(?P<revision>[^/]+)", "paths"),
    (rf"POST {_API}/preupload/(?P<revision>[^/]+)", "preupload"),
    (rf"POST {_API}/commit/(?P<revision>[^/]+)", "commit"),
    (rf"GET {_API}/revision/(?P<revision>[^/]+)", "info"),
    (rf"GET {_API}", "info"),
    (rf"POST /(?P<kind>datasets/)?{_NAME}\.git/info/lfs/objects/batch", "batch"),
    (r"PUT /lfs/(?P<oid>[0-9a-f]{64})", "put"),
    (rf"(?:GET|HEAD) /github/raw/{_NAME}/(?P<revision>[^/]+)/(?P<path>.+)", "github_raw"),
    (rf"GET /github/api/repos/{_NAME}/git/trees/(?P<revision>[^/]+)", "github_tree"),
    (rf"(?:GET|HEAD) /(?P<kind>datasets/)?{_NAME}/resolve/(?P<revision>[^/]+)/(?P<path>.+)", "resolve"),
)
