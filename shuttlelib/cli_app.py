"""The command `shuttle app`; thin, over the add-on `apps.web`, which is imported when it runs."""

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from shuttlelib.cli_data import Folder
from shuttlelib.errors import ShuttleError


def app(
    host: Annotated[str, typer.Option(help="Address to listen on; others than this machine's want a password.")] = (
        "127.0.0.1"
    ),
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="The first free one from 7860 if left out.")
    ] = None,
    password: Annotated[
        str,
        typer.Option(
            envvar="SHUTTLE_APP_PASSWORD", help="Ask visitors for it; better given in the environment."
        ),
    ] = "",
    max_upload_mb: Annotated[int, typer.Option(min=1, help="Size limit of a video.")] = 1000,
    time_limit_s: Annotated[
        float, typer.Option(min=1, help="Time limit of a tracking; what is found by then is kept.")
    ] = 1800,
    at_once: Annotated[int, typer.Option(min=1, help="Videos tracked at the same time.")] = 1,
    waiting: Annotated[int, typer.Option(min=1, help="Videos that may wait for their turn.")] = 8,
    keep_min: Annotated[float, typer.Option(min=1, help="Minutes that an idle visitor's files stay.")] = 60,
    backend: Annotated[str, typer.Option(help="See shuttle track.")] = "auto",
    device: Annotated[str, typer.Option(help="See shuttle track.")] = "auto",
    threads: Annotated[
        int | None, typer.Option(min=1, help="CPU threads a tracking; all cores if left out.")
    ] = None,
    models: Annotated[
        Path | None, typer.Option(**Folder, help="Folder of models; the shipped ones if left out.")
    ] = None,
    space: Annotated[
        Path | None, typer.Option(help="Instead, write a folder that runs as a Hugging Face Space.")
    ] = None,
) -> None:
    """Serve a page in the browser: drop a video, watch it tracked, correct it, download the result."""
    if space is not None:
        from shuttlelib.apps.web.space import write_space

        files = write_space(space)
        print(f"{files} files in {space}; next: hf upload OWNER/NAME {space} . --repo-type space")
        return
    if find_spec("gradio") is None:
        raise ShuttleError("gradio is not installed; run: pip install 'shuttlelib[app]'")
    from shuttlelib.apps.web.options import Options
    from shuttlelib.apps.web.serve import serve

    keep_s = keep_min * 60
    limits = Options(
        host, port, password, False, max_upload_mb, time_limit_s, at_once, waiting, keep_s
    ).with_tracker(backend, device, threads, models)
    serve(limits)
