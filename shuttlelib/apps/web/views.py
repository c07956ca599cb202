"""Strings of HTML and SVG that the page shows; colours come from `look`, so that they suit a dark page too.

What a visitor wrote (file names) is escaped; the rest are numbers.
"""

from collections.abc import Iterator, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np

from shuttlelib.apps.web.jobs import Job
from shuttlelib.apps.web.stills import around, as_jpeg, whole
from shuttlelib.apps.web.tracks import Corrections, Gap, Track
from shuttlelib.rows import runs

_TRAIL_S = 0.6
_POINTS = 2000  # of a curve; more than a screen has columns
_ROWS = 200  # of a table
_LEAST_LOST_S = 0.1  # shorter gaps are blinks: shaded, not listed


def clock(seconds: float) -> str:
    """Minutes and seconds, as 1:05.2."""
    tenths = round(seconds * 10)
    return f"{tenths // 600}:{tenths // 10 % 60:02d}.{tenths % 10}"


def notice(text: str, kind: str = "info") -> str:
    """A line for the visitor: info, warning or error; nothing where there is no text."""
    return f'<div class="notice {kind}" role="status">{escape(text)}</div>' if text else ""


def facts(pairs: Sequence[tuple[str, str]]) -> str:
    """Small cards of (name, value)."""
    cards = "".join(f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in pairs)
    return f'<div class="facts">{cards}</div>'


def progress(job: Job) -> str:
    """A bar with frames, speed and time left; or how many come before."""
    if job.ahead:
        one = job.ahead == 1
        return f'<p class="said">{"One video is" if one else f"{job.ahead} videos are"} before yours …</p>'
    of = f" of {job.expected:,}" if job.expected else ""
    said = [f"first look at frame {job.looked:,}{of}"] if job.looked else ["loading the networks"]
    if job.frames:
        said = [f"{job.frames:,}{of} frames", f"{job.fps:.0f} fps"]
    if job.seconds_left is not None:
        said.append(f"{clock(job.seconds_left)} left")
    share = min(1.0, job.frames / job.expected) if job.expected else 0.0
    kind = "" if job.expected else " unknown"
    return (
        f'<div class="progress{kind}" role="progressbar" aria-valuenow="{share * 100:.0f}">'
        f'<i style="width:{share:.1%}"></i></div><p class="said">{" · ".join(said)}</p>'
    )


def overview(track: Track, least: float) -> str:
    """What came out, in five numbers."""
    shown = track.shown(least)
    trust = f"{track.confidence[shown].mean():.0%}" if shown.any() else "–"
    return facts(
        [
            ("frames", f"{len(shown):,}"),
            ("with a shuttle", f"{shown.mean():.0%}"),
            ("mean confidence there", trust),
            ("times lost", f"{len(_lost(track, least)):,}" if shown.any() else "never seen"),
            ("tracked at", f"{track.summary['speed_fps']:.0f} fps"),
        ]
    )


def player(video: Path) -> str:
    """The overlay video."""
    return (
        f'<video controls playsinline preload="metadata" src="gradio_api/file={quote(str(video))}"></video>'
    )


def viewer(
    track: Track, rgb: np.ndarray, frame: int, least: float, corrections: Corrections, zoom: bool
) -> str:
    """One frame with the trail behind its point; `data-*` tell the browser which pixels it shows."""
    place = corrections.get(frame, tuple(track.xy_px[frame]) if track.visible[frame] else None)
    middle = place or (rgb.shape[1] / 2, rgb.shape[0] / 2)
    box = around(rgb, *middle) if zoom else whole(rgb)
    unit = box.w / 640
    marks = list(_trail(track, frame, least, unit))
    if track.shown(least)[frame]:
        marks.append(_circle(track.xy_px[frame], 7 * unit, "ring"))
    if (corrected := corrections.get(frame)) is not None:
        marks.append(_cross(corrected, 6 * unit))
    data = f'data-frame="{frame}" data-x="{box.x}" data-y="{box.y}" data-w="{box.w}" data-h="{box.h}"'
    at = (frame + 0.5) / len(track.rows)
    return (
        f'<div class="stage" {data} data-at="{at:.5f}" data-s="{track.time_s[frame] + 1e-3:.4f}">'
        f'<img alt="frame {frame}" draggable="false" src="{as_jpeg(rgb, box)}">'
        f'<svg viewBox="{box.x} {box.y} {box.w} {box.h}">{"".join(marks)}</svg></div>'
        f'<div class="caption"><button data-by="-1" aria-label="frame before">‹</button>'
        f"<span>{_caption(track, frame, least, corrections)}</span>"
        f'<button data-by="1" aria-label="next frame">›</button></div>'
    )


def _caption(track: Track, frame: int, least: float, corrections: Corrections) -> str:
    said = f"frame {frame:,} · {clock(track.time_s[frame])} · "
    if frame in corrections:
        return said + ("corrected: not visible" if corrections[frame] is None else "corrected")
    sure = f"confidence {track.confidence[frame]:.0%}"
    if not track.visible[frame]:
        return f"{said}no shuttle seen · {sure}"
    if not track.shown(least)[frame]:
        return f"{said}hidden · {sure}, below {least:.0%}"
    return f"{said}{track.rows['source'].iat[frame]} · {sure}"


def _trail(track: Track, frame: int, least: float, unit: float) -> Iterator[str]:
    first = int(np.searchsorted(track.time_s, track.time_s[frame] - _TRAIL_S))
    shown = track.shown(least)
    for old in range(first, frame):
        if shown[old] and shown[old + 1]:
            (x0, y0), (x1, y1) = track.xy_px[old : old + 2]
            strength = (old + 1 - first) / (frame - first)
            yield (
                f'<line class="trail" x1="{x0:.1f}" y1="{y0:.1f}" x2="{x1:.1f}" y2="{y1:.1f}" '
                f'stroke-width="{1.6 * unit:.2f}" opacity="{strength:.2f}"/>'
            )


def _circle(xy: Sequence[float], radius: float, kind: str) -> str:
    return (
        f'<circle class="{kind}" cx="{xy[0]:.2f}" cy="{xy[1]:.2f}" r="{radius:.2f}" '
        f'stroke-width="{radius / 4:.2f}"/>'
    )


def _cross(xy: Sequence[float], arm: float) -> str:
    """Four strokes that leave the place itself in view."""
    x, y = xy
    gap = arm / 3
    strokes = "".join(
        f"M{x + dx * gap:.2f} {y + dy * gap:.2f}l{dx * arm:.2f} {dy * arm:.2f}"
        for dx, dy in ((1, 0), (-1, 0), (0, 1), (0, -1))
    )
    return f'<path class="cross" stroke-width="{arm / 4:.2f}" d="{strokes}"/>'


def court(track: Track, background: np.ndarray, least: float) -> str:
    """Every shown place over one dimmed frame of the video; joined up where the track is whole."""
    box, unit = whole(background), background.shape[1] / 640
    kind = "path many" if len(track.rows) > _POINTS else "path"
    thin = max(1, len(track.rows) // (10 * _POINTS))
    lines = _polylines(track.xy_px[:, 0], track.xy_px[:, 1], track.shown(least), thin)
    drawn = "".join(f'<polyline class="{kind}" stroke-width="{unit:.2f}" points="{p}"/>' for p in lines)
    return (
        f'<div class="court"><img alt="the middle frame, dimmed" src="{as_jpeg(background, widest_px=960)}">'
        f'<svg viewBox="0 0 {box.w} {box.h}">{drawn}</svg></div>'
    )


def curves(track: Track, least: float) -> str:
    """x, y and confidence over time, with the gaps shaded; a click asks for the frame there."""
    n, (width, height) = len(track.rows), track.size_wh
    shown = track.shown(least)
    shade = "".join(
        f'<rect class="gap{" doubted" if gap.doubted else ""}" x="{gap.first}" y="0" '
        f'width="{gap.last - gap.first + 1}" height="1"/>'
        for gap in track.gaps(least)
    )
    everywhere = np.ones(n, dtype=bool)
    panels = (
        ("x, px", 1 - track.xy_px[:, 0] / width, shown, (f"{width}", "0"), "x"),
        ("y, px (down)", track.xy_px[:, 1] / height, shown, ("0", f"{height}"), "y"),
        ("confidence", 1 - track.confidence, everywhere, ("1", "0"), "sure"),
    )
    drawn = []
    for name, values, where, ends, kind in panels:
        lines = _polylines(np.arange(n) + 0.5, values, where, max(1, n // _POINTS))
        marks = "".join(f'<polyline class="{kind}" points="{points}"/>' for points in lines)
        if kind == "sure" and least > 0:
            marks += f'<path class="least" d="M0 {1 - least:.3f}H{n}"/>'
        drawn.append(
            f"<figure><figcaption>{name}</figcaption><b>{ends[0]}</b><b>{ends[1]}</b>"
            f'<svg viewBox="0 0 {n} 1" preserveAspectRatio="none">{shade}{marks}</svg></figure>'
        )
    clocks = dict.fromkeys(clock(second) for second in np.linspace(0, track.time_s[-1], 5))
    ticks = "".join(f"<span>{tick}</span>" for tick in clocks)
    return f'<div class="curves" data-n="{n}">{"".join(drawn)}<i></i></div><div class="ticks">{ticks}</div>'


def _polylines(x: np.ndarray, y: np.ndarray, where: np.ndarray, every: int) -> Iterator[str]:
    """Points of each unbroken run of `where`, thinned to every so many."""
    x, y, where = x[::every], y[::every], where[::every]
    for first, end in runs(where):
        points = zip(x[first:end], y[first:end])
        joined = " ".join(f"{a:.4g},{b:.4g}" if a < 1000 else f"{a:.1f},{b:.4g}" for a, b in points)
        yield joined if end - first > 1 else f"{joined} {joined}"


def lost_table(track: Track, least: float) -> str:
    """Where the track was lost, a line each; a click asks for the frame."""
    lost, gaps = _lost(track, least), track.gaps(least)
    if not gaps:
        return '<p class="said">The shuttle is shown in every frame.</p>'
    times = track.time_s
    lines = [
        _line(
            gap.first,
            clock(times[gap.first]),
            f"{gap.first:,} – {gap.last:,}",
            _length(times, gap),
            _why(gap),
        )
        for gap in lost[:_ROWS]
    ]
    blinks = len(gaps) - len(lost)
    notes = [f"the first {_ROWS} of {len(lost):,}"] if len(lost) > _ROWS else []
    if blinks:
        blink, are = ("blink", "is") if blinks == 1 else ("blinks", "are")
        notes.append(f"{blinks:,} {blink} of at most {_LEAST_LOST_S:g} s {are} shaded below, not listed")
    table = _table(("at", "frames", "for", "why"), lines) if lines else ""
    return table + f'<p class="said">{"; ".join(notes)}</p>'


def corrections_table(track: Track, corrections: Corrections) -> str:
    """The corrected frames; a click asks for the frame."""
    if not corrections:
        return '<p class="said">Click on the shuttle in a frame whose point is wrong.</p>'
    lines = []
    for frame, place in sorted(corrections.items()):
        was = track.xy_px[frame] if track.visible[frame] else None
        moved = "" if was is None or place is None else f"{np.hypot(*(was - place)):.1f} px"
        lines.append(_line(frame, f"{frame:,}", _place(was), _place(place), moved))
    return _table(("frame", "tracked", "corrected", "moved"), lines)


def _lost(track: Track, least: float) -> list[Gap]:
    times = track.time_s
    return [gap for gap in track.gaps(least) if times[gap.last] - times[gap.first] > _LEAST_LOST_S]


def _length(times: np.ndarray, gap: Gap) -> str:
    return f"{times[gap.last] - times[gap.first]:.1f} s"


def _why(gap: Gap) -> str:
    return "confidence too low" if gap.doubted else "not seen"


def _place(xy: Sequence[float] | np.ndarray | None) -> str:
    return "not visible" if xy is None else f"{xy[0]:.1f}, {xy[1]:.1f}"


def _line(frame: int, *cells: str) -> str:
    first, *others = cells
    rest = "".join(f"<td>{cell}</td>" for cell in others)
    return f'<tr data-frame="{frame}"><td><button data-frame="{frame}">{first}</button></td>{rest}</tr>'


def _table(names: Sequence[str], lines: Sequence[str]) -> str:
    heads = "".join(f"<th>{name}</th>" for name in names)
    return f'<div class="table"><table><tr>{heads}</tr>{"".join(lines)}</table></div>'
