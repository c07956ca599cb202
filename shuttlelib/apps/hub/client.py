"""The Hub's own client with our manners: one-line errors, patience when asked for it, no token in any word.

The token comes from `HF_TOKEN` or `hf auth login`; nothing here takes one, prints one or writes one.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal, TypeVar

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils.sha import git_hash

from shuttlelib import files
from shuttlelib.errors import ShuttleError, UsageError

Kind = Literal["dataset", "model"]
Tree = dict[str, RepoFile]  # path in the repository to its entry
T = TypeVar("T")

TRIES, LONGEST_WAIT_S = 4, 900
NETWORK = ("httpx", "httpx2", "hf_xet")  # packages whose errors are about the way to the Hub
LOGIN = "run `hf auth login`, or set HF_TOKEN (make a token at huggingface.co/settings/tokens)"
AGAIN = "give the same command again: it goes on where it stopped"


class HubError(ShuttleError):
    """The Hub refused something, cannot be reached, or sent something else than it promised."""


def api() -> HfApi:
    """The client, at the endpoint that `HF_ENDPOINT` names now."""
    return HfApi(endpoint=os.environ.get("HF_ENDPOINT") or None, library_name="shuttlelib")


def require_token(repo: str) -> None:
    """Say how to log in before any work is done.

    Raises:
        HubError: there is no token in the environment nor from a login.
    """
    if not get_token():
        raise HubError(f"{repo}: writing to the Hub needs a login: {LOGIN}")


@contextmanager
def speaking(repo: str) -> Iterator[None]:
    """Turn what the Hub's client raises into one line that names the repository and the fix.

    Raises:
        UsageError: the repository's name is not one.
        HubError: anything that the Hub or the way to it does not allow. Errors of the disk pass through.
    """
    try:
        yield
    except ShuttleError:
        raise
    except HFValidationError as error:
        raise UsageError(f"{repo!r} is not a repository's name: give owner/name, like me/rallies") from error
    except Exception as error:
        said = _explain(repo, error)
        if said is None:
            raise
        raise HubError(redact(said)) from None  # the chain may hold request headers


def patiently(call: Callable[[], T]) -> T:
    """Make a call; where the Hub answers 429, wait as long as it asks and make it again.

    The client does so itself for most requests, but not for creating a repository, looking one up, and
    committing. A wait of more than `LONGEST_WAIT_S` is left to the person.
    """
    for attempt in range(1, TRIES + 1):
        try:
            return call()
        except Exception as error:
            refused = _http_error(error)
            wait_s = _wait_s(refused, attempt) if refused is not None else None
            if wait_s is None or wait_s > LONGEST_WAIT_S or attempt == TRIES:
                raise
            print(f"the Hub asks to wait {wait_s} s (too many requests)", file=sys.stderr, flush=True)
            time.sleep(wait_s)
    raise AssertionError("the last try returns or raises")


def head(repo: str, kind: Kind, revision: str | None = None) -> str:
    """The commit hash of a branch, tag or commit; of the newest commit if left out."""
    info = patiently(lambda: api().repo_info(repo, repo_type=kind, revision=revision))
    if info.sha is None:
        raise HubError(f"{repo}: the Hub names no commit; check HF_ENDPOINT")
    return info.sha


def tree(repo: str, kind: Kind, revision: str) -> Tree:
    """Every file of a commit."""
    entries = patiently(
        lambda: list(api().list_repo_tree(repo, repo_type=kind, revision=revision, recursive=True))
    )
    return {entry.path: entry for entry in entries if isinstance(entry, RepoFile)}


def same(path: Path, size: int, sha256: str | None, blob_id: str) -> bool:
    """Whether a file holds what the Hub says: by SHA-256 for large files, by git's hash for small ones."""
    if not path.is_file() or path.stat().st_size != size:
        return False
    if sha256 is not None:
        return files.sha256(path) == sha256
    return git_hash(path.read_bytes()) == blob_id


def same_file(path: Path, entry: RepoFile) -> bool:
    """`same` for an entry of a `Tree`."""
    return same(path, entry.size, entry.lfs.sha256 if entry.lfs else None, entry.blob_id)


def redact(text: str) -> str:
    """The text on one line, without the token should the server have repeated it."""
    token = get_token()
    return " ".join((text.replace(token, "***") if token else text).split())


def _explain(repo: str, error: Exception) -> str | None:
    """One line about an error of the Hub or the network; None where it is something else."""
    if isinstance(error, LocalTokenNotFoundError):
        return f"{repo}: the Hub wants a login: {LOGIN}"
    if isinstance(error, OfflineModeIsEnabled):
        return f"{repo}: the Hub's client is offline: unset HF_HUB_OFFLINE"
    if isinstance(error, ValueError) and "README.md" in str(error):
        return f"{repo}: the Hub refuses the card ({error}); give a licence it knows, like cc-by-4.0 or other"
    refused = _http_error(error)
    if refused is not None:
        return _explain_status(repo, refused)
    links = list(_chain(error))
    if any(base.__module__.partition(".")[0] in NETWORK for link in links for base in type(link).__mro__):
        why = type(links[-1]).__name__
        return f"{repo}: {api().endpoint} cannot be reached ({why}); check the connection and {AGAIN}"
    return None


def _explain_status(repo: str, error: HfHubHTTPError) -> str:
    status = error.response.status_code
    said = f" ({error.server_message})" if error.server_message else ""
    if repo.startswith("github.com/"):
        return f"{repo}: GitHub answers with status {status}{said}; check --revision, or wait an hour"
    if isinstance(error, GatedRepoError):
        return (
            f"{repo}: its owner asks you to accept terms first, on its page on the Hub; then log in: {LOGIN}"
        )
    if isinstance(error, RevisionNotFoundError):
        return f"{repo}: has no such revision; give a branch, a tag or a commit hash"
    if status == 429:
        wait_s = _wait_s(error, 0)
        return f"{repo}: too many requests for the Hub; wait {wait_s} s, then {AGAIN}"
    if isinstance(error, RepositoryNotFoundError) or status == 404:
        return f"{repo}: not found, or private: check the name; if it is private, log in: {LOGIN}"
    if status == 401:
        told = "does not accept your token" if get_token() else "wants a login"
        return f"{repo}: the Hub {told} (status 401): {LOGIN}"
    if status == 403:
        return f"{repo}: your token may not do that{said}: make one with write access to it, then {LOGIN}"
    if status in (409, 412):
        return f"{repo}: has changed meanwhile: pull, then push again{said}"
    return f"{repo}: the Hub answers with status {status}{said}; {AGAIN}"


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _http_error(error: BaseException) -> HfHubHTTPError | None:
    return next((link for link in _chain(error) if isinstance(link, HfHubHTTPError)), None)


def _wait_s(error: HfHubHTTPError, attempt: int) -> int | None:
    """Seconds that a 429 asks to wait (doubling ones where it does not say); None for any other status."""
    if error.response.status_code != 429:
        return None
    asked = error.response.headers.get("retry-after", "")
    return int(asked) if asked.isdigit() else 2**attempt
