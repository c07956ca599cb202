"""The command `shuttle app`; thin, over the add-on `apps.web`, which is imported when it runs."""

from importlib.util import find_spec
from typing import Annotated

import typer

from shuttlelib.cli_data import Models, Threads
from shuttlelib.errors import ShuttleError


def app(
    host: Annotated[
        str, typer.Option(help="Address to listen on; any but this machine's own wants a password.")
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The first free one from 7860 if left out.")
    ] = None,
    password: Annotated[
        str, typer.Option(envvar="SHUTTLE_APP_PASSWORD", help="That visitors must give.")
    ] = "",
    max_upload_mb: Annotated[int, typer.Option(min=1, help="Size limit of a video.")] = 1000,
    time_limit_s: Annotated[
        float, typer.Option(min=1, help="Time limit of a tracking; what is found by then is kept.")
    ] = 1800,
    at_once: Annotated[int, typer.Option(min=1, help="Videos tracked at the same time.")] = 1,
    waiting: Annotated[int, typer.Option(min=1, help="Videos that may wait for their turn.")] = 8,
    keep_min: Annotated[float, typer.Option(min=1, help="Minutes that an idle visitor's files stay.")] = 60,
    backend: Annotated[str, typer.Option(help="As for shuttle track.")] = "auto",
    device: Annotated[str, typer.Option(help="As for shuttle track.")] = "auto",
    threads: Threads = None,
    models: Models = None,
) -> None:
    """Serve a page in the browser: drop a video, watch it tracked, correct it, download the result."""
    if find_spec("gradio") is None:
        raise ShuttleError("gradio is not installed; in the clone run: pip install -e '.[app]'")
    from shuttlelib.apps.web.options import Options
    from shuttlelib.apps.web.serve import serve

    serve(
        Options(
            host=host,
            port=port,
            password=password,
            max_upload_mb=max_upload_mb,
            time_limit_s=time_limit_s,
            at_once=at_once,
            waiting=waiting,
            keep_s=keep_min * 60,
            backend=backend,
            device=device,
            threads=threads,
            models=models,
        )
    )
