"""How the page looks, and the little that runs in the browser; nothing of it comes from elsewhere.

`page.css` is for the whole page. The scripts are those of its live parts and send to Python: `seek` {frame},
`step` {by} and `pick` {frame, x, y}, where x and y are native px whatever size the picture is shown at.
"""

from pathlib import Path

import gradio as gr

TITLE = "Where is the shuttle?"
CSS = Path(__file__).with_name("page.css")


def script(name: str) -> str:
    """A live part's script."""
    return Path(__file__).with_name(f"{name}.js").read_text("utf-8")


def theme() -> gr.themes.Base:
    """Calm greys with one green; only fonts that the machine has."""
    fonts = ["ui-sans-serif", "system-ui", "sans-serif"]
    return gr.themes.Base(
        primary_hue="teal",
        neutral_hue="slate",
        radius_size="lg",
        font=fonts,
        font_mono=["ui-monospace", "monospace"],
    ).set(
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_text_color="white",
    )
