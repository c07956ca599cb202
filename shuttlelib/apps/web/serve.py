"""Serve the page until it is stopped: the private folder, the gate before Gradio, the password."""

import hmac
import os
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from starlette.middleware import Middleware

from shuttlelib.apps.web import folders
from shuttlelib.apps.web.gate import Gate
from shuttlelib.apps.web.options import Options
from shuttlelib.errors import UsageError
from shuttlelib.tracking import load_networks

if TYPE_CHECKING:
    import gradio as gr

# Gradio reads them when it is imported or makes a page: no reports, no look for newer versions.
_ENVIRONMENT = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "GRADIO_SSR_MODE": "False",
}


@contextmanager
def running(options: Options, parent: Path | None = None) -> "Iterator[gr.Blocks]":
    """The page, up while the block runs; then all that visitors left is deleted.

    Args:
        options: how to serve it.
        parent: where the private folder goes; the system's folder for temporary files if left out.

    Raises:
        UsageError: strangers could come in without a password, the host is not this machine, or the port is
            taken.
    """
    _check(options)
    with folders.opened(options.keep_s, parent) as place, _environment(GRADIO_TEMP_DIR=str(place.root)):
        from shuttlelib.apps.web import page as page_
        from shuttlelib.apps.web.desks import Desks
        from shuttlelib.apps.web.handlers import Handlers

        desks = Desks(place, options)
        page = page_.build(Handlers(desks), options)
        try:
            with _fetching_nothing():
                _launch(page, options, place)
                yield page
        finally:
            desks.close()
            page.close(verbose=False)


@contextmanager
def _fetching_nothing() -> Iterator[None]:
    """While the block runs, an input that names an address, a slider's too, is refused, not fetched."""
    from gradio import processing_utils

    async def refuse(url: str, cache_dir: str) -> str:
        raise ValueError("this page fetches no addresses")

    download = processing_utils.async_ssrf_protected_download
    processing_utils.async_ssrf_protected_download = refuse
    try:
        yield
    finally:
        processing_utils.async_ssrf_protected_download = download


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    """The process's environment with these and `_ENVIRONMENT`, until the block ends."""
    before = dict(os.environ)
    os.environ.update(_ENVIRONMENT, **values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


def serve(options: Options) -> None:
    """Serve until Ctrl-C or SIGTERM.

    Raises:
        ShuttleError: as `running`, or the networks cannot be loaded.
    """
    _check(options)  # before the networks, which take their time
    for stop in (signal.SIGINT, signal.SIGTERM):  # a shell starts what it puts aside without the first
        signal.signal(stop, signal.default_int_handler)
    load_networks(  # what is missing is said now
        options.backend, options.device, options.threads, options.models, precision="auto"
    )
    try:
        with running(options) as page:
            print(f"open {page.local_url}  (Ctrl-C stops the page and deletes what was uploaded)", flush=True)
            threading.Event().wait()
    except KeyboardInterrupt:
        print("stopped")


def _launch(page: "gr.Blocks", options: Options, place: folders.Folders) -> None:
    from shuttlelib.apps.web import look

    max_bytes = options.max_upload_mb << 20
    gate = Middleware(
        Gate, folders=place, max_bytes=max_bytes, local_only=options.local and not options.password
    )
    page.launch(
        server_name=options.host,
        server_port=options.port,
        auth=(lambda _, given: hmac.compare_digest(given.encode(), options.password.encode()))
        if options.password
        else None,
        auth_message="Any name will do; the password is the one that the page was started with.",
        max_file_size=max_bytes,
        app_kwargs={"middleware": [gate], "docs_url": None, "redoc_url": None, "openapi_url": None},
        theme=look.theme(),
        css_paths=look.CSS,
        footer_links=[],
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
        share=False,
        ssr_mode=False,
        inline=False,
        quiet=True,
        prevent_thread_lock=True,
    )


def _check(options: Options) -> None:
    """Refuse what cannot be listened on, or only with a password; see `running`."""
    options.check()
    _check_free(options.host, 0)
    if options.port is not None:
        _check_free(options.host, options.port)


def _check_free(host: str, port: int) -> None:
    """Refuse a port that is taken; with 0, a host that is none of this machine's addresses."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except (OSError, TypeError) as error:  # the latter of a name that cannot be one
            why = getattr(error, "strerror", error)
            raise UsageError(
                f"--port {port}: cannot listen on {host}:{port} ({why}); choose another"
                if port
                else f"--host {host}: no address of this machine ({why}); give one, or 0.0.0.0 for all"
            ) from error
