"""What a page is made of, as plain data that `html` and `markdown` both write; a leaf of the report.

Text is a string, with `code` between backticks, or a tuple of strings and links. Links go to a page by its
slug ("versions/stage2_v11"), to one that is only HTML by its file ("runs/a/00_get_data.html") or to an
address ("https://…").
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

NONE = "–"


@dataclass(frozen=True)
class Link:
    """A word that leads somewhere; `to` as the module says."""

    text: str
    to: str


Text = str | Link | tuple[str | Link, ...]


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    text: Text


@dataclass(frozen=True)
class Bullets:
    """A list."""

    items: tuple[Text, ...]


@dataclass(frozen=True)
class Headline:
    """A few numbers to see first, each with its name and what it is measured by."""

    numbers: tuple[tuple[str, str, str], ...]  # value, name, condition


@dataclass(frozen=True)
class Table:
    """Rows under a head; the first `left` and the last `right` columns are words, the others numbers.

    `fold` is the name under which a long table waits to be opened.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[Text, ...], ...]
    left: int = 1
    right: int = 0
    note: str = ""
    fold: str = ""

    def is_number(self, column: int) -> bool:
        return self.left <= column < len(self.head) - self.right


@dataclass(frozen=True)
class Figure:
    """A drawing; `name` is its file's stem under `figures/`, `svg` the file."""

    name: str
    svg: str
    alt: str
    caption: str = ""


@dataclass(frozen=True)
class Figures:
    """Drawings beside each other where there is room."""

    drawings: tuple[Figure, ...]


@dataclass(frozen=True)
class Picture:
    """A raster picture of the site by its path, with what is to be seen there."""

    path: str
    caption: str
    alt: str


@dataclass(frozen=True)
class Gallery:
    """Pictures in rows."""

    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Node:
    """A version in the family tree: what it changed, and what that bought (`better` None: not known)."""

    name: Link
    changed: str
    number: str
    bought: str
    better: bool | None
    children: tuple["Node", ...] = ()


@dataclass(frozen=True)
class Tree:
    """A family tree from its roots."""

    roots: tuple[Node, ...]


@dataclass(frozen=True)
class Chooser:
    """A comparison of any two versions, made in the reader's browser; only in HTML.

    Attributes:
        data: names, labels and values as `pages.compare` makes them; JSON-ready.
    """

    data: Mapping[str, Any]


Block = Prose | Bullets | Headline | Table | Figure | Figures | Gallery | Tree | Chooser


@dataclass(frozen=True)
class Section:
    """Blocks under a heading."""

    title: str
    blocks: tuple[Block, ...]

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Page:
    """A page; its slug is its path without a suffix."""

    slug: str
    title: str
    lede: Text
    sections: tuple[Section, ...] = ()

    @property
    def root(self) -> str:
        """The way from this page to the site's root."""
        return "../" * self.slug.count("/")

    def figures(self) -> list[Figure]:
        """Every drawing of the page."""
        blocks = [block for section in self.sections for block in section.blocks]
        groups = [block.drawings for block in blocks if isinstance(block, Figures)]
        return [*(block for block in blocks if isinstance(block, Figure)), *(f for g in groups for f in g)]


def sections(*parts: tuple[str, Sequence[Block | None]]) -> tuple[Section, ...]:
    """Sections that have something to show."""
    made = (Section(title, tuple(b for b in blocks if b is not None)) for title, blocks in parts)
    return tuple(section for section in made if section.blocks)


def parts(text: Text) -> tuple[str | Link, ...]:
    """A text's strings and links."""
    return text if isinstance(text, tuple) else (text,)


def number(value: float | int | None, digits: int = 3) -> str:
    """A number as readers see it."""
    if value is None:
        return NONE
    return f"{value:,}" if isinstance(value, int) else f"{value:,.{digits}f}"


def between(value: float | None, limits: Sequence[float | None] | None, digits: int = 3) -> str:
    """A number with its interval, where it has one."""
    text = number(value, digits)
    if value is None or not limits or None in limits:
        return text
    return f"{text} ({number(limits[0], digits)} to {number(limits[1], digits)})"
