"""The few calls of Label Studio's REST API that the label loop needs.

Plain HTTP instead of label-studio-sdk: that brings 33 packages and takes numpy and OpenCV back to older
versions, for seven calls that have been the same since Label Studio 1.0.

Source: https://labelstud.io/api, tried against Label Studio 1.23.2.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shuttlelib.errors import ShuttleError, UsageError

TOKEN_VARIABLE = "LABEL_STUDIO_API_KEY"
_EXCHANGE = "/api/token/refresh"
_UPLOAD_CHUNK = 40  # files a request; the server's own limit is 100
_TASK_CHUNK = 200


class LabelServerError(ShuttleError):
    """The label server cannot be reached, or refuses what was asked."""


def token_from_environment() -> str:
    """The token of an existing server; it is never printed or written.

    Raises:
        UsageError: there is none.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        raise UsageError(
            f"{TOKEN_VARIABLE} is not set: export the access token of your account on the server "
            "(Label Studio, Account & Settings) as that variable"
        )
    return token


class Client:
    """A connection to one server; close it, or use it as a context manager.

    Args:
        url: of the server.
        token: a personal access token or a legacy token.
        timeout_s: of one request.

    Attributes:
        url: of the server.
        stops_server: whether the server was started for this client and stops with it.

    Raises:
        LabelServerError: every method, when the server is not there or says no; names the fix.
    """

    def __init__(self, url: str, token: str, timeout_s: float = 120.0) -> None:
        import httpx

        self.url, self.stops_server = url.rstrip("/"), False
        try:
            transport = httpx.HTTPTransport(retries=2)
            self._http = httpx.Client(base_url=self.url, timeout=timeout_s, transport=transport)
            self._refresh = token if token.count(".") == 2 else ""  # a personal access token
            if self._refresh:
                self._exchange()
            else:
                self._http.headers["Authorization"] = f"Token {token}"
        except (httpx.InvalidURL, httpx.UnsupportedProtocol, ValueError) as error:
            raise UsageError(f"--url {url}: give an address like http://localhost:8080") from error

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def who(self) -> str:
        """The e-mail address that the token belongs to."""
        return self._call("GET", "/api/current-user/whoami")["email"]

    def people(self) -> dict[int, str]:
        """E-mail addresses by user number."""
        return {user["id"]: user["email"] for user in self._call("GET", "/api/users/")}

    def create_project(self, title: str, label_config: str) -> int:
        """Make a project whose predictions are shown as pre-annotations; its number."""
        content = {"title": title, "label_config": label_config, "show_collab_predictions": True}
        return self._call("POST", "/api/projects/", json=content)["id"]

    def update_project(self, project: int, **fields: Any) -> None:
        """Change settings of a project."""
        self._call("PATCH", f"/api/projects/{project}/", json=fields)

    def project(self, project: int) -> dict[str, Any]:
        """Settings of a project, `label_config` among them."""
        return self._call("GET", f"/api/projects/{project}/")

    def add_folder(self, project: int, folder: Path) -> None:
        """Let a project's tasks show files of a folder that the server may serve."""
        content = {"project": project, "path": str(folder), "use_blob_urls": True}
        content |= {"regex_filter": "^$", "title": folder.name}  # a sync shall make no tasks of the pictures
        known = self._call("GET", "/api/storages/localfiles", params={"project": project})
        if str(folder) not in [storage["path"] for storage in known]:
            self._call("POST", "/api/storages/localfiles", json=content)

    def import_tasks(self, project: int, tasks: Sequence[dict[str, Any]]) -> None:
        """Add tasks with their predictions."""
        for start in range(0, len(tasks), _TASK_CHUNK):
            self._call("POST", f"/api/projects/{project}/import", json=tasks[start : start + _TASK_CHUNK])

    def upload(self, project: int, files: Sequence[Path]) -> dict[Path, str]:
        """Send pictures to the server; their addresses there. Names must differ."""
        found: dict[Path, str] = {}
        for start in range(0, len(files), _UPLOAD_CHUNK):
            chunk = files[start : start + _UPLOAD_CHUNK]
            parts = [(path.name, (path.name, path.read_bytes())) for path in chunk]
            answer = self._call(
                "POST", f"/api/projects/{project}/import", params={"commit_to_project": "false"}, files=parts
            )
            listed = self._call(
                "GET", f"/api/projects/{project}/file-uploads", params={"ids": str(answer["file_upload_ids"])}
            )
            for entry in listed:
                name = entry["file"].rsplit("/", 1)[-1]  # <random>-<name>
                path = next(path for path in chunk if name.endswith("-" + path.name))
                found[path] = f"/data/upload/{project}/{name}"
        return found

    def export(self, project: int) -> Any:
        """A project's tasks with what was answered; unlabelled ones too."""
        params = {"exportType": "JSON", "download_all_tasks": "true"}
        return self._call("GET", f"/api/projects/{project}/export", params=params)

    def _exchange(self) -> None:
        """Get a short-lived token (5 minutes or so) for the personal one."""
        self._http.headers.pop("Authorization", None)
        answer = self._call("POST", _EXCHANGE, json={"refresh": self._refresh})
        self._http.headers["Authorization"] = f"Bearer {answer['access']}"

    def _call(self, method: str, path: str, **request: Any) -> Any:
        import httpx

        try:
            response = self._http.request(method, path, **request)
            if response.status_code == 401 and self._refresh and path != _EXCHANGE:
                self._exchange()
                response = self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise LabelServerError(
                f"{self.url}: no label server answers ({type(error).__name__}); start it, or check --url"
            ) from error
        if response.is_success:
            try:
                return response.json() if response.content else None
            except ValueError as error:
                raise LabelServerError(
                    f"{self.url}: {path} gave no JSON; is this a Label Studio server?"
                ) from error
        raise LabelServerError(_refusal(self.url, method, path, response.status_code, response.text))


def _refusal(url: str, method: str, path: str, status: int, text: str) -> str:
    if status in (401, 403):
        return (
            f"{url}: the token is not accepted for {path} (HTTP {status}); set {TOKEN_VARIABLE} to a token "
            "of an account there that may see the project"
        )
    if status == 404 and "/projects/" in path:
        number = path.split("/projects/")[1].split("/")[0]
        return (
            f"{url}: project {number} is not there (HTTP 404): deleted, or another server; local labels are "
            "as they were. To label anew, start with another --work folder"
        )
    return f"{url}: {method} {path} was refused (HTTP {status}): {' '.join(text.split())[:200]}"
