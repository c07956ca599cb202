"""What stands between the network and Gradio: only what the page needs passes, and only one's own files.

Gradio serves every file of its upload folder to whoever names the path, fetches web addresses on request and
has pages of its own. Here, each browser gets a random cookie; what it uploads is moved to that visitor's own
folder, and a file is served only out of it. What makes it fetch addresses is refused by `serve`.
"""

import json
import re
import secrets
import shutil
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.responses import PlainTextResponse

from shuttlelib.apps.web.folders import Folders

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

COOKIE = "shuttle_visitor"
LOOPBACK = ("127.0.0.1", "localhost")
_API, _FILE, _UPLOAD = "/gradio_api/", "/gradio_api/file=", "/gradio_api/upload"
_OPEN = re.compile(
    r"/(|config|login/?|logout|theme\.css|favicon\.ico|manifest\.json|robots\.txt|(assets|static|svelte)/.*)|"
    + _API
    + r"(queue/(join|data)|run/predict|upload(_progress)?|cancel|heartbeat/\w+|startup-events|app_id|"
    r"login_check/?|user/?|file=.*)"
)
_SLACK = 1 << 16  # bytes of an upload that are not the file's
_RESERVE = 1 << 30  # bytes of disk that uploads leave free
_HEADERS = {
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
}


def visitor_of(cookies: Mapping[str, str]) -> str:
    """A browser's name by its cookie; "" without one that this page can have set."""
    name = cookies.get(COOKIE, "")
    return name if re.fullmatch(r"[A-Za-z0-9_-]{20,60}", name) else ""


class Gate:
    """ASGI middleware around Gradio's app.

    Args:
        app: the app within.
        folders: where visitors' files are.
        max_bytes: of one upload.
        local_only: answer only requests that name this machine, so that no web page can reach in by
            pointing its own name here (DNS rebinding).
    """

    def __init__(self, app: Any, folders: Folders, max_bytes: int, local_only: bool) -> None:
        self.app, self.folders, self.max_bytes, self.local_only = app, folders, max_bytes, local_only

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return await send({"type": "websocket.close"})
        request = HTTPConnection(scope)
        known = visitor_of(request.cookies)
        visitor = known or secrets.token_urlsafe(24)
        if refusal := self._refusal(request, scope["path"], visitor):
            return await refusal(scope, receive, send)
        send = _with_headers(send, None if known else _cookie(request, visitor))
        if scope["path"] == _UPLOAD:
            send = self._claiming(send, visitor)
        await self.app(scope, receive, send)

    def _refusal(self, request: HTTPConnection, path: str, visitor: str) -> PlainTextResponse | None:
        host = urlsplit(f"//{request.headers.get('host', '')}").hostname
        if self.local_only and host not in LOOPBACK:
            return PlainTextResponse("this page answers to 127.0.0.1 and localhost only", 403)
        if not _OPEN.fullmatch(path):
            return PlainTextResponse("there is no such page", 404)
        if path.startswith(_FILE) and not self.folders.owns(visitor, path.removeprefix(_FILE)):
            return PlainTextResponse("not your file", 403)
        if path == _UPLOAD:
            return self._too_much(request.headers.get("content-length", ""))
        return None

    def _too_much(self, length: str) -> PlainTextResponse | None:
        """Refuse an upload by its announced size, before a byte of it is read."""
        if not length.isdecimal():
            return PlainTextResponse("say how large the upload is (Content-Length)", 411)
        if int(length) > self.max_bytes + _SLACK:
            return PlainTextResponse(f"the video is larger than {self.max_bytes >> 20} MB", 413)
        if shutil.disk_usage(self.folders.root).free - int(length) < _RESERVE:
            return PlainTextResponse("the disk is full: try again later", 507)
        return None

    def _claiming(self, send: Send, visitor: str) -> Send:
        """A `send` that moves uploaded files to the visitor's folder before it tells the browser of them."""
        held: list[Message] = []
        body = bytearray()

        async def claim(message: Message) -> None:
            held.append(message)
            if message["type"] != "http.response.body":
                return
            body.extend(message.get("body", b""))
            if message.get("more_body"):
                return
            start = held[0]
            said = bytes(body)
            if start["status"] == 200:
                said = json.dumps([self._claim(Path(path), visitor) for path in json.loads(said)]).encode()
                MutableHeaders(scope=start)["content-length"] = str(len(said))
            await send(start)
            await send({"type": "http.response.body", "body": said})

        return claim

    def _claim(self, path: Path, visitor: str) -> str:
        target = self.folders.new(visitor) / path.name
        path.rename(target)
        path.parent.rmdir()  # named by the content's hash: two visitors' equal videos must not meet there
        return str(target)


def _cookie(request: HTTPConnection, visitor: str) -> str:
    """Set-Cookie for a new visitor; a Space shows the page inside another site's frame."""
    secure = request.headers.get("x-forwarded-proto", request.url.scheme) == "https"
    reach = "SameSite=None; Secure; Partitioned" if secure else "SameSite=Lax"
    return f"{COOKIE}={visitor}; Path=/; HttpOnly; {reach}"


def _with_headers(send: Send, cookie: str | None) -> Send:
    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers.update(_HEADERS)
            if cookie:
                headers.append("set-cookie", cookie)
        await send(message)

    return add
