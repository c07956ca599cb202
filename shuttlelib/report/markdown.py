"""Pages as Markdown, with the same figures, so that GitHub shows them without a build."""

import re
from urllib.parse import quote

from shuttlelib.report.blocks import (
    Block,
    Bullets,
    Chooser,
    Figure,
    Figures,
    Gallery,
    Headline,
    Link,
    Node,
    Page,
    Picture,
    Prose,
    Table,
    Text,
    Tree,
    parts,
)

_SPECIAL = re.compile(r"([\\*_\[\]<>|~#])")
_ACROSS = 4  # pictures of a gallery beside each other


def path(slug: str) -> str:
    """Where a page lies: GitHub shows a folder's README."""
    return re.sub(r"(^|/)index$", r"\1README", slug) + ".md"


def render(page: Page) -> str:
    """A page as Markdown; what only a browser can do is left out."""
    lines = [f"# {escape(page.title)}", _text(page.lede, page)]
    for section in page.sections:
        blocks = [block for block in section.blocks if not isinstance(block, Chooser)]
        if blocks:
            lines += [f"## {escape(section.title)}", *(_block(block, page) for block in blocks)]
    return "\n\n".join(lines) + "\n"


def escape(text: str) -> str:
    """Text that Markdown and HTML leave as it is, on one line."""
    pieces = " ".join(str(text).split()).split("`")
    plain = [_SPECIAL.sub(r"\\\1", piece).replace("&", "&amp;") for piece in pieces]
    if len(pieces) % 2 == 0:  # a backtick that no other closes is just one
        return r"\`".join(plain)
    return "".join(f"`{code.replace('|', '/')}`" if i % 2 else plain[i] for i, code in enumerate(pieces))


def _block(block: Block, page: Page) -> str:
    match block:
        case Prose(text):
            return _text(text, page)
        case Bullets(items):
            return "\n".join(f"- {_text(item, page)}" for item in items)
        case Headline(numbers):
            names, values, said = zip(*((name, f"**{value}**", said) for value, name, said in numbers))
            rows = (tuple(escape(name) for name in names), values, tuple(escape(s) for s in said))
            return _rows(rows, [False] * len(names))
        case Table():
            head = tuple(escape(cell) for cell in block.head)
            body = [tuple(_text(cell, page) for cell in row) for row in block.rows]
            note = f"\n\n{escape(block.note)}" if block.note else ""
            table = _rows((head, *body), [block.is_number(i) for i in range(len(head))]) + note
            return (
                f"<details><summary>{block.fold}</summary>\n\n{table}\n\n</details>" if block.fold else table
            )
        case Figure():
            caption = f"\n\n{escape(block.caption)}" if block.caption else ""
            return f"![{escape(block.alt)}]({page.root}figures/{block.name}.svg){caption}"
        case Figures(drawings):
            return "\n\n".join(_block(figure, page) for figure in drawings)
        case Gallery(pictures):
            return _gallery(pictures, page)
        case Tree(roots):
            return "\n".join(line for root in roots for line in _node(root, page, 0))
        case _:
            raise TypeError(f"{type(block).__name__}: has no Markdown")


def _rows(rows: tuple[tuple[str, ...], ...], numbers: list[bool]) -> str:
    rule = ["---:" if number else "---" for number in numbers]
    return "\n".join(f"| {' | '.join(row)} |" for row in (rows[0], rule, *rows[1:]))


def _gallery(pictures: tuple[Picture, ...], page: Page) -> str:
    """A table of pictures with their words below."""
    lines = []
    for start in range(0, len(pictures), _ACROSS):
        row = pictures[start : start + _ACROSS]
        lines.append([f"![{escape(p.alt)}]({page.root}{p.path})" for p in row])
        lines.append([escape(p.caption) for p in row])
    wide = len(lines[0])
    return _rows(tuple((*line, *[""] * (wide - len(line))) for line in lines), [False] * wide)


def _node(node: Node, page: Page, depth: int) -> list[str]:
    number = " ".join(word for word in (node.number, node.bought) if word)
    own = f"{'  ' * depth}- **{_text(node.name, page)}** {escape(number)}: {escape(node.changed)}"
    return [
        re.sub(r" +: ", ": ", own),
        *(line for child in node.children for line in _node(child, page, depth + 1)),
    ]


def _text(text: Text, page: Page) -> str:
    return "".join(
        _link(part, page) if isinstance(part, Link) else escape_keeping(part) for part in parts(text)
    )


def escape_keeping(text: str) -> str:
    """`escape`, but blanks at the ends stay: they stand before and after links."""
    head = " " if text[:1].isspace() else ""
    tail = " " if text[-1:].isspace() and text.strip() else ""
    return f"{head}{escape(text)}{tail}"


def _link(link: Link, page: Page) -> str:
    if link.to.endswith(".html"):  # has no Markdown of its own
        return escape(link.text)
    to = link.to if link.to.startswith("https://") else quote(page.root + path(link.to))
    return f"[{escape(link.text)}]({to})"
