"""The page itself: what stands where, and which event calls which handler."""

from typing import Any

import gradio as gr

from shuttlelib.apps.web import look
from shuttlelib.apps.web.handlers import Handlers
from shuttlelib.apps.web.options import Options
from shuttlelib.tracker import MODES

_MODES = {
    "smart": "smart: looks everywhere when the track is in doubt",
    "fast": "fast: looks everywhere twice a second",
    "calibration": "calibration: in every frame, slowest",
    "offline": "offline: reads a file twice, most accurate",
}

_QUIET: dict[str, Any] = {"queue": False, "show_progress": "hidden", "api_visibility": "private"}
_LATEST = {**_QUIET, "trigger_mode": "always_last"}  # of events that come faster than they are answered


def build(handlers: Handlers, options: Options) -> gr.Blocks:
    """The page, ready to be launched."""
    with gr.Blocks(title=look.TITLE, analytics_enabled=False) as page:
        part = {**_question(options), **_answer()}
        _wire_question(part, handlers)
        _wire_answer(part, handlers)
        page.unload(handlers.leave)
    page.queue(default_concurrency_limit=None)  # the desks have a line of their own, which visitors see
    return page


def _question(options: Options) -> dict[str, Any]:
    """What is asked of the visitor, and the progress of the work."""
    most = f"{options.max_upload_mb:,} MB and {options.time_limit_s / 60:g} minutes of tracking at most"
    gr.HTML(
        f"<h1>{look.TITLE}</h1><p>Give a video of badminton and get, for every frame, whether the shuttle is "
        "visible and where. Your video stays on this server, and only while this page is open; "
        f"{most}.</p>",
        elem_id="head",
    )
    part: dict[str, Any] = {}
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=320):
            part["file"] = gr.File(label="Video", file_types=["video"], height=190, elem_id="file")
            part["sample"] = gr.Button("Use the sample rally", size="sm", elem_id="sample")
        with gr.Column(scale=2, min_width=280):
            known = "; ".join(_MODES[mode] for mode in MODES)
            part["mode"] = gr.Radio(MODES, value=MODES[0], label="Mode", info=known, elem_id="mode")
            part["least"] = gr.Slider(
                0,
                0.95,
                0,
                step=0.05,
                label="Least confidence",
                info="rows below it are hidden; 0 shows all, and it can be changed later",
                elem_id="least",
            )
    part["about"] = gr.HTML(elem_id="about")
    with gr.Row():
        part["start"] = gr.Button("Find the shuttle", variant="primary", interactive=False, elem_id="start")
        part["cancel"] = gr.Button("Cancel", variant="stop", visible=False, elem_id="cancel")
    part["progress"] = gr.HTML(elem_id="progress")
    return part


def _answer() -> dict[str, Any]:
    """What was found; hidden until then."""
    part: dict[str, Any] = {}
    with gr.Column(visible=False, elem_id="result") as part["result"]:
        part["overview"] = gr.HTML(elem_id="overview")
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320), gr.Tabs():
                with gr.Tab("Frame by frame"):
                    part["viewer"] = gr.HTML(js_on_load=look.script("viewer"), elem_id="viewer")
                    part["frame"] = gr.Slider(0, 1, 0, step=1, label="Frame", elem_id="frame")
                    with gr.Row():
                        part["hide"] = gr.Button("Not visible here", size="sm", elem_id="hide")
                        part["undo"] = gr.Button("Undo this frame", size="sm", elem_id="undo")
                        part["zoom"] = gr.Checkbox(
                            label="Zoom", container=False, min_width=80, elem_id="zoom"
                        )
                with gr.Tab("Video"):
                    part["player"] = gr.HTML(elem_id="overlay")
            with gr.Column(scale=2, min_width=300):
                gr.HTML('<h2 class="part">Over the court</h2>')
                part["court"] = gr.HTML(elem_id="court")
                gr.HTML('<h2 class="part">Where the track was lost</h2>')
                part["lost"] = gr.HTML(js_on_load=look.script("seek"), elem_id="lost")
        gr.HTML(
            '<h2 class="part">Over time</h2><p class="said">Shaded: no shuttle shown. Click to go there.</p>'
        )
        part["curves"] = gr.HTML(js_on_load=look.script("seek"), elem_id="curves")
        with gr.Row(equal_height=False):
            with gr.Column(min_width=300):
                gr.HTML('<h2 class="part">Take it with you</h2>')
                for name, label in (("csv", "CSV"), ("json", "JSON"), ("mp4", "Overlay video")):
                    part[name] = gr.DownloadButton(label, size="sm", elem_id=name)
                gr.HTML('<p class="said">Corrections are in CSV and JSON; the video is as tracked.</p>')
            with gr.Column(min_width=300):
                gr.HTML('<h2 class="part">Corrections</h2>')
                part["corrections"] = gr.HTML(js_on_load=look.script("seek"), elem_id="corrections")
                part["labels"] = gr.DownloadButton("Labels", size="sm", interactive=False, elem_id="labels")
                gr.HTML(
                    '<p class="said">Put the file beside your video, then: '
                    "<code>shuttle data import FOLDER --out data/mine</code></p>"
                )
    return part


def _wire_question(part: dict[str, Any], handlers: Handlers) -> None:
    taken = [part[name] for name in ("about", "start", "result")]
    part["file"].upload(handlers.uploaded, part["file"], taken, **_QUIET)
    part["file"].clear(handlers.cleared, None, taken, **_QUIET)
    part["sample"].click(handlers.sample, None, [*taken, part["file"]], **_QUIET)
    buttons = [part[name] for name in ("progress", "start", "cancel", "result")]
    begun = part["start"].click(handlers.begin, None, buttons, **_QUIET)
    run = begun.then(
        handlers.run,
        part["mode"],
        part["progress"],
        show_progress="hidden",
        api_visibility="private",
    )
    finished = run.then(handlers.finish, None, [*buttons, part["frame"]], **_QUIET)
    _show(finished.then, part, handlers)
    part["cancel"].click(handlers.stop, None, None, **_QUIET)


def _show(event: Any, part: dict[str, Any], handlers: Handlers) -> None:
    """After `event`: everything that depends on the least confidence, and the current frame.

    The files come first, so that what a page shows can be downloaded.
    """
    names = ("overview", "court", "curves", "lost", "player", "mp4")
    written = event(handlers.corrected, part["least"], _corrected(part), **_QUIET)
    shown = written.then(handlers.show, part["least"], [part[name] for name in names], **_QUIET)
    shown.then(handlers.frame, [part["frame"], part["least"], part["zoom"]], part["viewer"], **_QUIET)


def _corrected(part: dict[str, Any]) -> list[Any]:
    return [part[name] for name in ("corrections", "labels", "csv", "json")]


def _wire_answer(part: dict[str, Any], handlers: Handlers) -> None:
    where = [part["frame"], part["least"], part["zoom"]]
    _show(part["least"].release, part, handlers)
    part["frame"].change(handlers.frame, where, part["viewer"], **_LATEST)
    part["zoom"].change(handlers.frame, where, part["viewer"], **_LATEST)
    for name in ("lost", "curves", "corrections"):
        part[name].seek(handlers.seek, None, part["frame"], **_LATEST)
    part["viewer"].step(handlers.step, part["frame"], part["frame"], **_LATEST)
    for event, handler, given in (
        (part["viewer"].pick, handlers.pick, part["least"]),
        (part["hide"].click, handlers.hide, where[:2]),
        (part["undo"].click, handlers.undo, where[:2]),
    ):
        event(handler, given, _corrected(part), **_QUIET).then(
            handlers.frame, where, part["viewer"], **_QUIET
        )
