"""Login, errors and smart HTTP's rules, without a server."""

import base64
import json
import logging
from collections.abc import Iterator

import pytest
from werkzeug.test import Client, TestResponse

from gitserver.core.arn import user_arn
from gitserver.core.caller import Caller, Proof
from gitserver.core.errors import Conflict, Denied, Failure, Invalid, NotFound, TooMuch, Unavailable
from gitserver.core.ids import AccountId, RequestId
from gitserver.core.secret import Secret
from gitserver.git.protocol import Reader
from gitserver.transports.http import errors
from gitserver.transports.http.body import BodyTooLarge, BodyTooSlow
from gitserver.transports.http.login import InvalidProxy
from gitserver.transports.http.wsgi import Door, application

ACCOUNT = AccountId("123456789012")
ADVERTISEMENT = "/v1/repos/web/info/refs?service=git-upload-pack"


class WaitAMinute(TooMuch):
    """Says how long."""

    retry_after_s = 61


class People:
    """Knows alice, whose password is "right:one"; remembers where she came from."""

    def __init__(self) -> None:
        self.addresses: list[str] = []

    def git_credential(self, user_name: str, password: Secret, address: str, request_id: RequestId) -> Caller:
        self.addresses.append(address)
        if user_name == "hasty":
            raise WaitAMinute("slow down")
        if (user_name, password) != ("älice", Secret("right:one")):
            raise Denied("wrong")
        proof = Proof("git-credential", "ACCA")
        return Caller(ACCOUNT, user_arn(ACCOUNT, "alice"), "AIDA", "alice", proof, address, request_id)


class Talk:
    """Echoes; notes whether it was closed."""

    def __init__(self, failure: Exception | None) -> None:
        self.closed = 0
        self._failure = failure

    def advertise(self) -> Iterator[bytes]:
        if self._failure:
            raise self._failure
        yield b"refs"
        yield b"more"

    def answer(self, stream: Reader, *, stateless: bool) -> Iterator[bytes]:
        if self._failure:
            raise self._failure
        while data := stream.read(3):
            yield data

    def close(self) -> None:
        self.closed += 1


class Access:
    """Opens talks, and remembers them and what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, int]] = []
        self.talks: list[Talk] = []
        self.failure: Exception | None = None
        self.failure_later: Exception | None = None

    def upload_pack(self, caller: Caller, name: str, version: int) -> Talk:
        return self._open("upload", name, version)

    def receive_pack(self, caller: Caller, name: str, version: int) -> Talk:
        return self._open("receive", name, version)

    def _open(self, service: str, name: str, version: int) -> Talk:
        self.asked.append((service, name, version))
        if self.failure:
            raise self.failure
        self.talks.append(Talk(self.failure_later))
        return self.talks[-1]


class Visitor:
    """Sends requests to a door without a network."""

    def __init__(self, *trusted: str) -> None:
        self.access, self.people = Access(), People()
        self.closed: list[bool] = []
        self.door: Door = application(
            self.access,
            self.people,
            max_body_bytes=1000,
            trusted_proxies=trusted,
            on_close=lambda: self.closed.append(True),
        )

    def get(self, path: str, **headers: str) -> TestResponse:
        return self._send("GET", path, b"", headers)

    def post(self, path: str, body: bytes = b"", **headers: str) -> TestResponse:
        return self._send("POST", path, body, headers)

    def _send(self, method: str, path: str, body: bytes, headers: dict[str, str]) -> TestResponse:
        named = {name.replace("_", "-"): value for name, value in {"Authorization": basic(), **headers}.items()}
        environ = {"REMOTE_ADDR": "192.0.2.1"}
        response = Client(self.door).open(path, method=method, data=body, headers=named, environ_base=environ)
        response.get_data()
        response.close()
        return response


def basic(text: str = "älice:right:one") -> str:
    return "Basic " + base64.b64encode(text.encode()).decode()


@pytest.fixture
def visitor() -> Visitor:
    return Visitor()


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Basic",
        "Basic !!!",
        "Basic " + base64.b64encode(b"\xff\xfe:x").decode(),
        "Bearer token",
        basic("no colon"),
        basic(":password"),
        basic("älice:"),
        basic("älice:wrong"),
        basic("a" * 300 + ":x"),
        basic("älice:" + "x" * 2000),
    ],
)
def test_whoever_does_not_prove_who_they_are_is_asked_again(visitor: Visitor, authorization: str) -> None:
    response = visitor.get(ADVERTISEMENT, Authorization=authorization)

    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"] == 'Basic realm="gitserver"'
    assert response.mimetype == "text/plain"
    assert visitor.access.asked == []


def test_a_password_may_contain_a_colon(visitor: Visitor) -> None:
    assert visitor.get(ADVERTISEMENT).status_code == 200


def test_who_tries_too_often_is_told_how_long_to_wait(visitor: Visitor) -> None:
    response = visitor.get(ADVERTISEMENT, Authorization=basic("hasty:x"))

    assert (response.status_code, response.headers["Retry-After"]) == (429, "61")


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (NotFound("x"), 404),
        (Conflict("x"), 409),
        (Denied("x"), 403),
        (Invalid("x"), 400),
        (TooMuch("x"), 429),
        (Unavailable("x"), 503),
        (Failure("x"), 500),
        (BodyTooLarge(5), 413),
        (BodyTooSlow(5, "all of it"), 408),
        (errors.WrongMediaType("a/b", ""), 415),
    ],
)
@pytest.mark.parametrize("later", [False, True])
def test_each_kind_of_failure_has_its_status_and_its_sentence(
    visitor: Visitor, failure: Failure, status: int, later: bool
) -> None:
    visitor.access.failure, visitor.access.failure_later = (None, failure) if later else (failure, None)

    response = visitor.get(ADVERTISEMENT)

    assert response.status_code == status
    assert response.text == f"{failure}\n"
    assert all(talk.closed for talk in visitor.access.talks)


def test_a_bug_tells_only_its_request_id(visitor: Visitor, caplog: pytest.LogCaptureFixture) -> None:
    visitor.access.failure = RuntimeError("secret detail")

    response = visitor.get(ADVERTISEMENT)

    assert response.status_code == 500
    assert "secret detail" not in response.text
    assert response.headers["x-amzn-RequestId"] in response.text
    assert "secret detail" in caplog.text


def test_a_talk_is_closed_when_the_answer_is_out(visitor: Visitor) -> None:
    response = visitor.get(ADVERTISEMENT)

    assert response.data == b"001e# service=git-upload-pack\n0000refsmore"
    assert [talk.closed for talk in visitor.access.talks] == [1]


@pytest.mark.parametrize(
    ("asked", "service", "spoken"),
    [("version=2", "upload", 2), ("version=1", "upload", 1), ("", "upload", 0), ("version=2", "receive", 0)],
)
def test_the_protocol_version_is_the_clients_but_pushes_have_no_second(
    visitor: Visitor, asked: str, service: str, spoken: int
) -> None:
    visitor.get(f"/v1/repos/web.git/info/refs?service=git-{service}-pack", Git_Protocol=asked)

    assert visitor.access.asked == [(service, "web", spoken)]


def test_an_answer_is_streamed_from_the_body(visitor: Visitor) -> None:
    media_type = "application/x-git-receive-pack-request"

    response = visitor.post("/v1/repos/web/git-receive-pack", b"hello", Content_Type=media_type)

    assert response.data == b"hello"
    assert response.mimetype == "application/x-git-receive-pack-result"
    assert [talk.closed for talk in visitor.access.talks] == [1]


def test_a_body_said_to_be_too_long_is_refused_unread(visitor: Visitor) -> None:
    media_type = "application/x-git-receive-pack-request"

    response = visitor.post("/v1/repos/web/git-receive-pack", bytes(1001), Content_Type=media_type)

    assert response.status_code == 413
    assert visitor.access.asked == []


@pytest.mark.parametrize("name", ["a b", "a%2Fb", "a%00", "%C3%A4", "a" * 101, "a.git.git", ".git"])
def test_names_that_no_repository_can_have_are_not_found(visitor: Visitor, name: str) -> None:
    response = visitor.get(f"/v1/repos/{name}/info/refs?service=git-upload-pack")

    assert response.status_code == 404
    assert visitor.access.asked == []


@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("", "192.0.2.1"),
        ("203.0.113.9", "203.0.113.9"),
        ("198.51.100.7, 203.0.113.9", "203.0.113.9"),
        ("198.51.100.7, 10.0.0.1", "198.51.100.7"),
        ("10.0.0.2, 10.0.0.1", "10.0.0.2"),
        ("rubbish, 10.0.0.1", "10.0.0.1"),
    ],
)
def test_a_trusted_proxy_tells_the_address(forwarded: str, address: str) -> None:
    visitor = Visitor("192.0.2.1", "10.0.0.0/8")

    visitor.get(ADVERTISEMENT, X_Forwarded_For=forwarded)

    assert visitor.people.addresses == [address]


def test_a_stranger_cannot_make_up_an_address(visitor: Visitor) -> None:
    visitor.get(ADVERTISEMENT, X_Forwarded_For="203.0.113.9")

    assert visitor.people.addresses == ["192.0.2.1"]


def test_a_trusted_proxy_that_is_no_address_is_refused() -> None:
    with pytest.raises(InvalidProxy, match="neither an address nor a network"):
        Visitor("proxy.example")


def test_the_access_log_names_the_caller_and_no_secret(visitor: Visitor, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gitserver.http.access")

    response = visitor.get(ADVERTISEMENT, User_Agent="git/2.39\x1b[31m")

    line = json.loads(caplog.messages[-1])
    assert line["request_id"] == response.headers["x-amzn-RequestId"]
    assert (line["caller"], line["status"], line["outcome"]) == (str(user_arn(ACCOUNT, "alice")), 200, "whole")
    assert "\x1b" not in caplog.messages[-1]
    assert basic().split()[1] not in caplog.text
    assert "right:one" not in caplog.text


def test_health_needs_no_credentials_and_closing_releases_the_services(visitor: Visitor) -> None:
    response = visitor.get("/healthz", Authorization="")
    visitor.door.close()

    assert response.data == b"ok\n"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert visitor.closed == [True]
