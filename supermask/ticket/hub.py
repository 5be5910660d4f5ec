"""The bytes of a ticket on a model hub: sent and fetched by `huggingface_hub`."""

import re
from pathlib import Path

from supermask.errors import SupermaskError

_STATUS = re.compile(r"\d{3} |Client error|Server error")
"""How a line begins that has no more than the status of an answer."""

FILE = "network.ticket"
"""What commands call the file of a ticket, too."""


def send(
    data: bytes,
    card: str,
    repo: str,
    *,
    file: str,
    message: str,
    private: bool,
    token: str | None,
    endpoint: str | None,
) -> str:
    """Put a ticket's bytes into a repository, which is made where there is none, in one commit.

    Args:
        data: of the ticket's file.
        card: the README of a repository that has none yet.
        repo: "owner/name".
        file: its path in the repository.
        message: of the commit.
        private: whether a repository that is made is private.
        token: of the hub; None is the one that was logged in with.
        endpoint: address of the hub; None is the one that huggingface_hub knows.

    Returns:
        The address of the commit.

    Raises:
        SupermaskError: the hub refused, cannot be reached, or huggingface_hub is not installed.

    """
    _installed()
    from huggingface_hub import CommitOperationAdd, HfApi

    api = HfApi(endpoint=endpoint, token=token)
    try:
        api.create_repo(repo, private=private, exist_ok=True)
        parts = [CommitOperationAdd(file, data)]
        if not api.file_exists(repo, "README.md"):
            parts.append(CommitOperationAdd("README.md", card.encode()))
        return str(api.create_commit(repo, parts, commit_message=message).commit_url)
    except (OSError, ValueError) as error:  # all errors of huggingface_hub are one of them
        raise SupermaskError(f"The ticket cannot be sent to {repo}: {_reason(error)}") from error


def fetch(repo: str, *, file: str, revision: str | None, token: str | None, endpoint: str | None) -> bytes:
    """Return the bytes of a file of a repository; what was fetched before is not fetched again.

    Args:
        repo: "owner/name".
        file: its path in the repository.
        revision: a branch, a tag or a commit; None is the newest.
        token: of the hub; None is the one that was logged in with.
        endpoint: address of the hub; None is the one that huggingface_hub knows.

    Raises:
        SupermaskError: there is no such file, the hub cannot be reached, or huggingface_hub is not installed.

    """
    _installed()
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repo, file, revision=revision, token=token, endpoint=endpoint)).read_bytes()
    except (OSError, ValueError) as error:
        raise SupermaskError(f"{file} cannot be fetched from {repo}: {_reason(error)}") from error


def card(repo: str, file: str, *, about: str, size: int, model: object, checkpoint: str | None = None) -> str:
    """Return the README of a repository that holds one ticket.

    Args:
        repo: "owner/name".
        file: the ticket's path in the repository.
        about: the ticket in a line.
        size: bytes of the file.
        model: the name of the architecture that the ticket was made from, where it is known.
        checkpoint: what the given weights are called that the ticket is over; None where they are random.

    """
    known = f"supermask.models.build({model!r})" if isinstance(model, str) else "..."
    parts = "a seed and a mask. The seed regrows the random weights, and the mask says which of them stay"
    if checkpoint is not None:
        known += ', given="..."'
        parts = f"masks over the weights of the checkpoint {checkpoint}, which is not in this repository"
    return f"""---
library_name: supermask
tags:
- lottery-ticket-hypothesis
- pruning
---

# A strong lottery ticket

`{about}`, {size:,} bytes: {parts}.

```python
import supermask

ticket = supermask.Ticket.from_hub({repo!r}, file={file!r})
network = ticket.apply({known})  # the architecture that it was made from
```
"""


def _installed() -> None:
    try:
        import huggingface_hub  # noqa: F401
    except ImportError:
        raise SupermaskError(
            "The hub needs huggingface_hub; install it: python -m pip install 'supermask[hub]'."
        ) from None


def _reason(error: Exception) -> str:
    """Return in one sentence what huggingface_hub says in several lines: a status, the reason, advice."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    reasons = [line for line in lines if not _STATUS.match(line)] or lines or [type(error).__name__]
    return f"{reasons[0]}."
