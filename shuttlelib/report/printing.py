"""The report on paper: Chromium prints it to PDF, where there is one."""

import os
import re
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from shuttlelib.files import atomic_write
from shuttlelib.report.store import ReportError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
LIMIT_S = 120


def to_pdf(page: Path, pdf: Path) -> Path:
    """Print an HTML file; the same page gives the same bytes with the same Chromium.

    Raises:
        ReportError: no Chromium is found, or it fails.
    """
    program = next((found for name in NAMES if (found := shutil.which(name))), None)
    if program is None:
        raise ReportError(
            f"{pdf}: needs Chromium ({', '.join(NAMES)}), and none is on the path: install one, or print "
            f"{page} from a browser"
        )
    with TemporaryDirectory(prefix="shuttle-print-") as folder, atomic_write(pdf) as temp:
        made = Path(folder, "made.pdf")
        command = [program, "--headless=new", "--disable-gpu", f"--user-data-dir={folder}/profile"]
        command += ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # root has none
        command += ["--no-pdf-header-footer", f"--print-to-pdf={made}", page.resolve().as_uri()]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ReportError(f"{pdf}: {program} did not print it ({error})") from error
        if not made.is_file():
            why = (done.stderr.strip().splitlines() or ["no message"])[-1]
            raise ReportError(f"{pdf}: {program} did not print it ({why})")
        temp.write_bytes(_timeless(made.read_bytes()))
    return pdf


def _timeless(pdf: bytes) -> bytes:
    """With the day of printing taken out, in as many bytes."""
    return re.sub(rb"(/(?:CreationDate|ModDate) \(D:)\d{14}", rb"\g<1>20000101000000", pdf)
