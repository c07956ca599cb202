"""The site as files: HTML, Markdown, drawings, pictures; everything is made before anything is written."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from shuttlelib.errors import UsageError
from shuttlelib.files import atomic_write
from shuttlelib.report import html, markdown, notebooks, pages, version_page
from shuttlelib.report.blocks import Gallery, Page
from shuttlelib.report.collect import Found
from shuttlelib.report.notebooks import Run
from shuttlelib.report.store import ReportError

MARK = ".shuttle-report"  # lists the files that are ours, so that the next report can take away what is gone
BOOK = "print"


def write(
    found: Found, out: Path, pictures: Mapping[str, bytes] | None = None, book: bool = False
) -> list[str]:
    """Write the report; what an earlier one left and this one does not have is taken away.

    Args:
        pictures: of the gallery by name, where they are not to be read from beside the weights.
        book: also `print.html`, what is worth printing on one page.

    Returns:
        Paths in `out`.

    Raises:
        UsageError: `out` holds something that is no report.
        ShuttleError: something it is made of is damaged.
    """
    _check(out)
    built = pages.build(found)
    files: dict[str, bytes] = {}
    for page in built:
        files[f"{page.slug}.html"] = html.render(page).encode()
        files[markdown.path(page.slug)] = markdown.render(page).encode()
        files |= {f"figures/{figure.name}.svg": figure.svg.encode() for figure in page.figures()}
        files |= _pictures(page, found.pictures, pictures or {})
    for run in found.runs:
        files |= notebook_files(run, f"runs/{run.name}/")
    if book:
        files[f"{BOOK}.html"] = html.book(_bound(built, found)).encode()
    _put(out, files)
    return sorted(files)


def write_run(folder: Path, run: Run, title: str) -> Path:
    """The pages of one run in a folder of their own, for `shuttle run`; path of the index."""
    page = notebooks.run_page(run, "index", title)
    menu = (("All notebooks", "index"),)
    _put(folder, {"index.html": html.render(page, menu).encode(), **notebook_files(run, "", menu)})
    return folder / "index.html"


def notebook_files(run: Run, place: str, menu: Sequence[tuple[str, str]] = html.MENU) -> dict[str, bytes]:
    """A page for each executed notebook of a run, by path; `place` is "" or ends in a slash."""
    made = {}
    for each in run.notebooks:
        if each.executed is not None and each.executed.exists():
            page = Page(f"{place}{each.name}", each.name.replace("_", " "), f"As it ran: {each.status}.")
            parameters = notebooks.parameters(each.executed)
            made[f"{page.slug}.html"] = html.render(
                page, menu, notebooks.body(each.executed), parameters
            ).encode()
    return made


def _bound(built: Sequence[Page], found: Found) -> list[Page]:
    """The pages that are printed together: the index, what is shipped, the published systems.

    What is measured of the pair stands on the pages of both; on paper once.
    """
    by_slug = {page.slug: page for page in built}
    first, last = (by_slug[f"versions/{name}"] for name in found.pair)
    own = tuple(section for section in first.sections if section.title in version_page.OWN)
    return [by_slug["index"], last, replace(first, sections=own), by_slug["published"]]


def _pictures(page: Page, folder: Path, given: Mapping[str, bytes]) -> dict[str, bytes]:
    found = {}
    for section in page.sections:
        for block in section.blocks:
            for picture in block.pictures if isinstance(block, Gallery) else ():
                name = Path(picture.path).name
                if name not in given and not (folder / name).is_file():
                    raise ReportError(
                        f"{folder / name}: a picture that report.json names is missing; give --data again"
                    )
                found[picture.path] = given[name] if name in given else (folder / name).read_bytes()
    return found


def _check(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out {out}: is a file; choose a folder")
    if out.is_dir() and any(out.iterdir()) and not (out / MARK).is_file():
        raise UsageError(f"--out {out}: holds something that is no report; choose an empty folder")


def _put(out: Path, files: Mapping[str, bytes]) -> None:
    """Write files, then take away those of the report before that are not among them.

    The mark names both while this goes on, so that a kill leaves nothing that the next report takes for
    somebody else's.
    """
    mark = out / MARK
    before = mark.read_text(encoding="utf-8").splitlines() if mark.is_file() else []
    _mark(mark, {*before, *files})
    for name, content in files.items():
        with atomic_write(out / name) as temp:
            temp.write_bytes(content)
    for name in sorted(set(before) - set(files)):
        path = out / name
        if path.resolve().is_relative_to(out.resolve()):
            path.unlink(missing_ok=True)
    _mark(mark, files)


def _mark(mark: Path, names: Iterable[str]) -> None:
    with atomic_write(mark) as temp:
        temp.write_text("".join(f"{name}\n" for name in sorted(names)), encoding="utf-8")
