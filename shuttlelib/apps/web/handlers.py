"""What happens when a visitor does something: the page's events, each over one open page's desk."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gradio as gr

from shuttlelib import paths
from shuttlelib.apps.web import views
from shuttlelib.apps.web.desks import Desk, Desks
from shuttlelib.apps.web.gate import visitor_of
from shuttlelib.apps.web.jobs import in_plain_words
from shuttlelib.apps.web.tracks import Track, write_labels
from shuttlelib.errors import ShuttleError
from shuttlelib.video import probe

SAMPLE = paths.SAMPLES / "rally.mp4"
Updates = tuple[Any, ...]


class Handlers:
    """Functions for Gradio's events; `request` says whose page it is.

    Args:
        desks: of the open pages.
    """

    def __init__(self, desks: Desks) -> None:
        self.desks = desks

    def uploaded(self, path: str, request: gr.Request) -> Updates:
        """A video came in: say what it is, or why it is none."""
        visitor, video = _visitor(request), Path(path)
        if not self.desks.folders.owns(visitor, video):
            raise gr.Error("This file is not yours; cookies must be allowed here.")
        return self._take(request, video, video.parent)

    def sample(self, request: gr.Request) -> Updates:
        """Take the sample instead of an upload."""
        return *self._take(request, SAMPLE, self.desks.folders.new(_visitor(request))), None

    def cleared(self, request: gr.Request) -> Updates:
        """The video was taken away: delete it."""
        self.desks.leave(_session(request))
        return "", gr.Button(interactive=False), gr.Column(visible=False)

    def begin(self) -> Updates:
        """Something happens at once."""
        return (
            '<p class="said">Starting …</p>',
            gr.Button(visible=False),
            gr.Button(visible=True),
            gr.Column(visible=False),
        )

    def run(self, mode: str, request: gr.Request) -> Iterator[str]:
        """Track the video; yields the progress bar."""
        desk = self._desk(request)
        if desk.video is None:
            raise gr.Error("Give a video first.")
        for job in self.desks.run(desk, mode):
            yield views.progress(job)

    def stop(self, request: gr.Request) -> None:
        """Cancel the tracking; nothing of it is kept."""
        job = self._desk(request).job
        if job is not None:
            job.cancel()

    def finish(self, request: gr.Request) -> Updates:
        """After a tracking, however it ended: buttons back, and the result or the reason there is none."""
        desk = self._desk(request)
        track, job = desk.track, desk.job
        if job is not None and job.result is None:
            kept = "Nothing was kept." if track is None else "The result from before is still here."
            said = views.notice(f"{job.error or 'Stopped.'} {kept}", "error" if job.error else "info")
        elif track is not None:
            partial, note = (in_plain_words(track.summary[key], track.video) for key in ("warning", "note"))
            said = views.notice(partial and f"Partial result. {partial}", "warning") + views.notice(note)
        else:
            said = ""
        last, first_seen = (0, 0) if track is None else (len(track.rows) - 1, int(track.visible.argmax()))
        slider = gr.Slider(maximum=max(last, 1), value=first_seen, interactive=last > 0)
        done = gr.Column(visible=track is not None)
        return said, gr.Button(visible=True), gr.Button(visible=False), done, slider

    def show(self, least: float, request: gr.Request) -> Updates:
        """All that depends on the least confidence alone: numbers, trajectory, curves, gaps, the video."""
        track = self._desk(request).track
        if track is None:
            return (gr.skip(),) * 6
        middle = track.stills.read(len(track.rows) // 2)
        return (
            views.overview(track, least),
            views.court(track, middle, least),
            views.curves(track, least),
            views.lost_table(track, least),
            views.player(track.overlay),
            gr.DownloadButton(value=str(track.overlay)),
        )

    def frame(self, frame: float, least: float, zoom: bool, request: gr.Request) -> str:
        """One frame with its trail."""
        desk = self._desk(request)
        if desk.track is None:
            return ""
        index = _index(desk.track, frame)
        rgb = desk.track.stills.read(index)
        return views.viewer(desk.track, rgb, index, least, desk.corrections, zoom)

    def seek(self, event: gr.EventData) -> int:
        """A click on a curve or a table: go to that frame."""
        return int(event.frame)

    def step(self, frame: float, request: gr.Request, event: gr.EventData) -> int:
        """One frame on or back."""
        track = self._desk(request).track
        return _index(track, frame + event.by) if track is not None else 0

    def pick(self, least: float, request: gr.Request, event: gr.EventData) -> Updates:
        """A click on a frame: the shuttle is there."""
        desk = self._desk(request)
        if desk.track is not None:
            width, height = desk.track.size_wh
            x, y = min(max(float(event.x), 0.0), width), min(max(float(event.y), 0.0), height)
            desk.corrections[_index(desk.track, event.frame)] = (x, y)
        return self._corrected(desk, least)

    def hide(self, frame: float, least: float, request: gr.Request) -> Updates:
        """The shuttle is not visible in this frame."""
        desk = self._desk(request)
        if desk.track is not None:
            desk.corrections[_index(desk.track, frame)] = None
        return self._corrected(desk, least)

    def undo(self, frame: float, least: float, request: gr.Request) -> Updates:
        """Take a frame's correction back."""
        desk = self._desk(request)
        desk.corrections.pop(int(frame), None)
        return self._corrected(desk, least)

    def corrected(self, least: float, request: gr.Request) -> Updates:
        """The table of corrections, and the files that hold them: labels, CSV and JSON."""
        return self._corrected(self._desk(request), least)

    def leave(self, request: gr.Request) -> None:
        """The page was closed: stop, and delete everything of it."""
        self.desks.leave(_session(request))

    def _corrected(self, desk: Desk, least: float) -> Updates:
        if desk.track is None:
            return "", gr.DownloadButton(interactive=False), gr.skip(), gr.skip()
        table = views.corrections_table(desk.track, desk.corrections)
        labels = str(write_labels(desk.track, desk.corrections)) if desk.corrections else None
        csv, report = desk.track.write_kept(least, desk.corrections)
        return (
            table,
            gr.DownloadButton(value=labels, interactive=labels is not None),
            gr.DownloadButton(value=str(csv)),
            gr.DownloadButton(value=str(report)),
        )

    def _take(self, request: gr.Request, video: Path, folder: Path) -> Updates:
        session = _session(request)
        self.desks.place(session, video, folder)
        try:
            info = probe(video)
        except ShuttleError as error:
            self.desks.leave(session)
            said = views.notice(in_plain_words(error, video), "error")
            return said, gr.Button(interactive=False), gr.Column(visible=False)
        length = views.clock(info.frame_count / info.fps) if info.frame_count else "unknown"
        said = views.facts(
            [
                ("video", video.name),
                ("size, px", f"{info.width} × {info.height}"),
                ("frames a second", f"{info.fps:.4g}"),
                ("length", length),
            ]
        )
        return said, gr.Button(interactive=True), gr.Column(visible=False)

    def _desk(self, request: gr.Request) -> Desk:
        try:
            return self.desks.of(_session(request))
        except ShuttleError as error:
            raise gr.Error(str(error)) from error


def _session(request: gr.Request) -> str:
    """A page's name: Gradio's session, tied to the browser's cookie so that nobody can borrow it."""
    return f"{_visitor(request)}/{request.session_hash}"


def _visitor(request: gr.Request) -> str:
    visitor = visitor_of(request.cookies)
    if not visitor:
        raise gr.Error("This page needs a cookie to keep your video apart from others': allow it and reload.")
    return visitor


def _index(track: Track, frame: float) -> int:
    """A frame's number as the browser sent it, made one that the track has."""
    return min(max(int(frame), 0), len(track.rows) - 1)
