"""Tickets on a model hub: a small server on this machine stands in for it."""

import base64
import hashlib
import json
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from torch import nn

import supermask
from supermask import SupermaskError, TicketError

constants = pytest.importorskip("huggingface_hub.constants")


class Hub(BaseHTTPRequestHandler):
    """What huggingface_hub asks of a hub to make a repository, to commit small files, and to fetch one."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        stored = self.server.repositories
        if self.path == "/api/repos/create":
            asked = json.loads(body)
            name = "/".join(part for part in (asked.get("organization"), asked["name"]) if part)
            if name in stored:
                return self._answer(409, {"error": "You already created this model repo", "url": self._url(name)})
            stored[name] = {}
            return self._answer(200, {"url": self._url(name), "name": name})
        if found := re.fullmatch(r"/api/models/(.+)/preupload/main", self.path):
            files = [{**file, "uploadMode": "regular", "shouldIgnore": False} for file in json.loads(body)["files"]]
            return self._answer(200, {"files": files})
        if found := re.fullmatch(r"/api/models/(.+)/commit/main", self.path):
            if self.headers.get("Authorization") == "Bearer refused":
                return self._answer(403, {"error": "You may not write here."})
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    stored[found[1]][line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"{self._url(found[1])}/commit/{'0' * 40}"
            return self._answer(200, {"commitUrl": url, "commitOid": "0" * 40, "success": True})
        if self.path == "/api/validate-yaml":  # of the front matter of a README
            return self._answer(200, {"errors": [], "warnings": []})
        return self._answer(404, {"error": "unknown"})

    def do_GET(self):
        found = re.fullmatch(r"/(.+)/resolve/[^/]+/(.+)", self.path)
        files = self.server.repositories.get(found[1]) if found else None
        if files is None:
            return self._answer(401, {"error": "no such repository"}, {"X-Error-Code": "RepoNotFound"})
        if found[2] not in files:
            return self._answer(404, {"error": "no such file"}, {"X-Error-Code": "EntryNotFound"})
        data = files[found[2]]
        marks = {"X-Repo-Commit": "0" * 40, "ETag": f'"{hashlib.sha256(data).hexdigest()}"'}
        return self._answer(200, data, marks)

    do_HEAD = do_GET

    def _url(self, name):
        return f"http://127.0.0.1:{self.server.server_port}/{name}"

    def _answer(self, status, content, headers=None):
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def hub(tmp_path, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.repositories = {}
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def endpoint(hub):
    return f"http://127.0.0.1:{hub.server_port}"


def _ticket(seed=0):
    return supermask.EdgePopup(nn.Linear(8, 4), density=0.3, seed=seed).ticket(model="lenet_300_100")


def test_a_ticket_that_was_sent_is_fetched_equal(hub, endpoint):
    ticket = _ticket()
    url = ticket.push_to_hub("me/small", token="t", endpoint=endpoint)
    assert url.startswith(endpoint)
    assert hub.repositories["me/small"]["network.ticket"] == ticket.to_bytes()
    fetched = supermask.Ticket.from_hub("me/small", endpoint=endpoint)
    assert fetched == ticket
    inputs = torch.randn(3, 8)
    outputs = [each.apply(nn.Linear(8, 4))(inputs) for each in (ticket, fetched)]
    assert torch.equal(*outputs)


def test_the_readme_is_written_once_and_loads_the_ticket(hub, endpoint):
    _ticket().push_to_hub("me/small", file="a.ticket", token="t", endpoint=endpoint)
    card = hub.repositories["me/small"]["README.md"].decode()
    assert "from_hub('me/small', file='a.ticket')" in card
    assert "library_name: supermask" in card
    assert "supermask.models.build('lenet_300_100')" in card
    hub.repositories["me/small"]["README.md"] = b"my own"
    _ticket(1).push_to_hub("me/small", token="t", endpoint=endpoint)
    assert hub.repositories["me/small"]["README.md"] == b"my own"
    assert {*hub.repositories["me/small"]} == {"a.ticket", "network.ticket", "README.md"}


def test_the_readme_says_which_checkpoint_a_ticket_is_over(hub, endpoint):
    given = supermask.Given("net")
    ticket = supermask.EdgePopup(nn.Linear(8, 4), density=0.4, weights=given).ticket()
    ticket.push_to_hub("me/given", token="t", endpoint=endpoint)
    card = hub.repositories["me/given"]["README.md"].decode()
    assert f"masks over the weights of the checkpoint {ticket.checkpoint.title}, which is not in" in card
    assert 'ticket.apply(..., given="...")' in card
    assert "The seed regrows" not in card


def test_a_changed_file_is_refused(hub, endpoint):
    _ticket().push_to_hub("me/small", token="t", endpoint=endpoint)
    whole = hub.repositories["me/small"]["network.ticket"]
    hub.repositories["me/small"]["network.ticket"] = whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:]
    with pytest.raises(TicketError):
        supermask.Ticket.from_hub("me/small", endpoint=endpoint)


@pytest.mark.parametrize(
    ("repo", "reason"),
    [("me/nothing", "Repository Not Found"), ("not a name", "Repo id"), ("me/small", "Entry Not Found")],
)
def test_what_is_not_there_is_one_sentence(hub, endpoint, repo, reason):
    hub.repositories["me/small"] = {}
    with pytest.raises(SupermaskError, match=rf"^network.ticket cannot be fetched from {repo}: {reason}[^\n]+\.$"):
        supermask.Ticket.from_hub(repo, endpoint=endpoint)


def test_a_refusal_of_the_hub_is_one_sentence(hub, endpoint):
    with pytest.raises(SupermaskError, match=r"^The ticket cannot be sent to me/small: Cannot access content[^\n]+\.$"):
        _ticket().push_to_hub("me/small", token="refused", endpoint=endpoint)


def test_a_hub_that_cannot_be_reached_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # a closed port would be tried again for half a minute
    with pytest.raises(SupermaskError, match=r"^network.ticket cannot be fetched from me/small: [^\n]+\.$"):
        supermask.Ticket.from_hub("me/small")


def test_without_the_package_the_message_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(SupermaskError, match=r"supermask\[hub\]"):
        supermask.Ticket.from_hub("me/small")
