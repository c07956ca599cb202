"""Pages as HTML: one file each, styles and drawings inside, links that work from a folder and a server."""

import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from shuttlelib.report.blocks import Chooser, Figure, Page, parts
from shuttlelib.report.figures import FAINT, INK

MENU = (("Versions", "index"), ("Compare", "compare/index"), ("Published systems", "published"))
_WIDE_PX = 800  # a drawing wider than that needs more room on a phone
_COLORS = {  # of the drawings, to the page's own, which differ in dark
    INK: "currentColor",
    FAINT: "var(--line)",
    "#0072b2": "var(--blue)",
    "#d55e00": "var(--vermilion)",
    "#009e73": "var(--green)",
    "#cc79a7": "var(--pink)",
    "#e69f00": "var(--orange)",
    "#56b4e9": "var(--sky)",
}


def render(
    page: Page,
    menu: Sequence[tuple[str, str]] = MENU,
    body: str = "",
    parameters: Mapping[str, Any] | None = None,
) -> str:
    """A page as HTML.

    Args:
        menu: names and slugs, for the head of the page.
        body, parameters: of an executed notebook; `body` is HTML and is not escaped.
    """
    blocks = [block for section in page.sections for block in section.blocks]
    return _template("page.html.j2").render(
        page=page,
        root=page.root,
        menu=menu,
        crumb=True,
        style=_asset("style.css"),
        theme=_asset("theme.js"),
        chooser=_asset("chooser.js") if any(isinstance(block, Chooser) for block in blocks) else "",
        body=Markup(body),  # text is escaped by nbconvert; what cells show as HTML is their own
        parameters=parameters or {},
    )


def book(pages: Sequence[Page]) -> str:
    """Several pages as one, for print; it lies at the root of the site."""
    return _template("print.html.j2").render(
        pages=pages, page=pages[0], root="", crumb=False, style=_asset("style.css")
    )


def address(to: str, root: str) -> str:
    """Where a link leads: an address as it is, a file or a page of the site from its root."""
    if to.startswith("https://"):
        return to
    return quote(f"{root}{to.removesuffix('.html')}.html")


def words(text: str) -> Markup:
    """Escaped text with `code` as such."""
    pieces = text.split("`")
    if len(pieces) % 2 == 0:  # a backtick that no other closes is just one
        return escape(text)
    return Markup("").join(
        Markup("<code>{}</code>").format(piece) if i % 2 else escape(piece) for i, piece in enumerate(pieces)
    )


def inline(figure: Figure) -> Markup:
    """A drawing inside the page, in the page's colours, with words for those who do not see it."""
    svg = figure.svg
    for color, own in _COLORS.items():
        svg = re.sub(color, own, svg, flags=re.IGNORECASE)
    width = re.search(r'<svg[^>]* width="([\d.]+)"', svg)
    wide = " wide" if width and float(width[1]) > _WIDE_PX else ""
    head = Markup('<svg class="drawing{}" role="img" aria-label="{}"').format(wide, figure.alt)
    return Markup(svg.replace("<svg", str(head), 1))


@cache
def _template(name: str) -> Any:
    environment = Environment(
        loader=PackageLoader("shuttlelib.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals |= {"href": address, "parts": parts, "inline": inline, "words": words}
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False}  # measures in their order
    return environment.get_template(name)


@cache
def _asset(name: str) -> Markup:
    text = resources.files("shuttlelib.report").joinpath("templates", name).read_text(encoding="utf-8")
    return Markup(text.rstrip())
