"""What the page may be asked for, and the rules about who may reach it."""

from dataclasses import dataclass
from pathlib import Path

from shuttlelib.apps.web.gate import LOOPBACK
from shuttlelib.errors import UsageError

_LEAST_PASSWORD = 8


@dataclass(frozen=True)
class Options:
    """How the page is served.

    Attributes:
        host: address to listen on; any but this machine's own wants a password.
        port: None takes the first free one from 7860.
        password: that visitors must give; "" asks for none.
        public: anyone may come without a password, as to a Hugging Face Space.
        max_upload_mb: of one video.
        time_limit_s: of one tracking; what is found by then is the result.
        at_once: videos tracked at the same time.
        waiting: videos that may wait for their turn.
        keep_s: how long the files of an idle visitor stay.
        backend, device, threads, models: of the tracker, see `tracking.load_networks`.
    """

    host: str = "127.0.0.1"
    port: int | None = None
    password: str = ""
    public: bool = False
    max_upload_mb: int = 1000
    time_limit_s: float = 1800.0
    at_once: int = 1
    waiting: int = 8
    keep_s: float = 3600.0
    backend: str = "auto"
    device: str = "auto"
    threads: int | None = None
    models: Path | None = None

    @property
    def local(self) -> bool:
        """Whether only this machine can reach the page."""
        return self.host in LOOPBACK

    def check(self) -> None:
        """Refuse to serve strangers without a password.

        Raises:
            UsageError: the password is missing or short, or the address is one that Gradio cannot serve.
        """
        if ":" in self.host:
            raise UsageError(f"--host {self.host}: give an IPv4 address or a name, like 127.0.0.1")
        if not (self.local or self.public or self.password):
            raise UsageError(
                f"--host {self.host}: others can reach the page there; "
                "give --password (or SHUTTLE_APP_PASSWORD), or leave --host out"
            )
        if self.password and len(self.password) < _LEAST_PASSWORD:
            raise UsageError(f"--password: too short; give at least {_LEAST_PASSWORD} characters")
