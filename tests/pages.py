"""The repository's Markdown pages: their fenced blocks, and the commands in them."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from shuttlelib.paths import REPO

CANNOT = ("account", "camera", "gpu", "network", "server")  # what a marked command needs, and no test has
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"\s+# +((\w+).*)")


class Command(NamedTuple):
    """A line of a page's shell blocks.

    Attributes:
        page: the page's path in the repository.
        text: without its comment.
        needs: what the comment says it needs, one of `CANNOT`; "" where a test can run it.
    """

    page: str
    text: str
    needs: str


def pages() -> list[Path]:
    """Every Markdown file that git knows or would add."""
    listed = ["git", "-C", str(REPO), "ls-files", "--cached", "--others", "--exclude-standard", "*.md"]
    names = subprocess.run(listed, capture_output=True, text=True, check=True).stdout.split()
    return [REPO / name for name in names if (REPO / name).is_file()]


def blocks(page: Path, kind: str) -> list[str]:
    """The contents of a page's fenced blocks of one kind."""
    return [text for name, text in FENCE.findall(page.read_text()) if name == kind]


def commands(page: Path) -> Iterator[Command]:
    """The commands of a page's shell blocks, in order."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            comment = COMMENT.search(line)
            needs = comment[2] if comment and comment[2] in CANNOT else ""
            yield Command(str(page.relative_to(REPO)), COMMENT.sub("", line), needs)
