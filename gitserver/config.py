"""The settings: what is set where, checked before anything starts.

A value comes from, in this order: the environment (``GITSERVER_SECTION_KEY``), ``DATA/gitserver.toml``, the packaged
``config/gitserver.toml``. Only ``app.py``, ``operations/`` and ``cli/`` read them; all others are handed plain values.
"""

import dataclasses
import difflib
import importlib.resources
import ipaddress
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import urlsplit

from gitserver.core.errors import Invalid, Unavailable
from gitserver.git.fsck import MESSAGE_IDS, UNREADABLE

FILE_NAME = "gitserver.toml"


class Unusable(Unavailable):
    """The data directory, its keys or its settings cannot be used as they are; the sentence says what to do."""

    code = "Unusable"


class InvalidSetting(Invalid):
    """A setting is unknown, of the wrong type or out of range."""

    code = "InvalidSetting"

    def __init__(self, place: str, what: str) -> None:
        super().__init__(f"{place}: {what}")


class NotADataDirectory(Unusable):
    """The directory holds no gitserver.toml."""

    code = "NotADataDirectory"

    def __init__(self, data: Path) -> None:
        super().__init__(f"{data} is not a gitserver data directory; make one with: gitserver init --data {data}")


@dataclass(frozen=True)
class Address:
    """A host and a port to listen on. Written ``HOST:PORT``, an IPv6 host in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """Take ``HOST:PORT`` apart.

    Raises:
        ValueError: it is not that; the message says what is expected.
    """
    host, colon, port = text.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError("expected HOST:PORT, like 127.0.0.1:8443 or [::1]:8443")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address goes in brackets, like [::1]:8443")
    return Address(host, int(port))


def _check(judge: Callable[[Any], object]) -> Any:
    """A field whose value *judge* may refuse by raising ValueError with a phrase."""
    return dataclasses.field(metadata={"judge": judge})


def _between(least: int, most: int) -> Any:
    """A field whose number must lie between *least* and *most*, both allowed."""

    def judge(value: int) -> None:
        if not least <= value <= most:
            raise ValueError(f"must be between {least} and {most}, and is {value}")

    return _check(judge)


def _matching(pattern: str, expected: str) -> Any:
    def judge(value: str) -> None:
        if not re.fullmatch(pattern, value):
            raise ValueError(f"expected {expected}, found {value!r}")

    return _check(judge)


def _judge_networks(networks: tuple[str, ...]) -> None:
    for network in networks:
        ipaddress.ip_network(network)  # its ValueError says what is wrong


def _judge_https_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme != "https" or not parts.hostname or parts.path.strip("/") or parts.query or parts.fragment:
        raise ValueError(f"expected https://HOST or https://HOST:PORT, found {url!r}")
    if parts.username or parts.password or not re.fullmatch(r"[A-Za-z0-9.:_-]+", parts.hostname):
        raise ValueError(f"expected a plain host name, found {url!r}")
    _ = parts.port  # raises ValueError where it is no port


def _judge_ssh_url(url: str) -> None:
    parts = urlsplit(url)
    if url and (parts.scheme != "ssh" or not parts.hostname or parts.path.strip("/") or parts.username):
        raise ValueError(f"expected ssh://HOST or ssh://HOST:PORT, found {url!r}")
    _ = parts.port


def _judge_database_url(url: str) -> None:
    if url and not url.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise ValueError("expected sqlite:////ABSOLUTE/PATH.db or postgresql+psycopg://USER:PASSWORD@HOST/NAME")


def _judge_fsck_ids(message_ids: tuple[str, ...]) -> None:
    for message_id in message_ids:
        if message_id in UNREADABLE:
            raise ValueError(f"{message_id} cannot be ignored: an object that breaks it cannot be read")
        if message_id not in MESSAGE_IDS:
            raise ValueError(f"git fsck knows no {message_id!r}; expected names like zeroPaddedFilemode")


def _judge_object_ids(oids: tuple[str, ...]) -> None:
    for oid in oids:
        if not re.fullmatch(r"[0-9a-f]{40}", oid):
            raise ValueError(f"expected object ids of 40 hexadecimal digits, found {oid!r}")


@dataclass(frozen=True, kw_only=True)
class ServerSettings:
    """``[server]``."""

    account: str = _matching(r"([0-9]{12})?", "twelve digits")
    region: str = _matching(r"[a-z]{2}(-[a-z]+)+-[0-9]", "a region like us-east-1")
    public_url: str = _check(_judge_https_url)
    graceful_stop_s: int = _between(1, 3600)


@dataclass(frozen=True, kw_only=True)
class HttpsSettings:
    """``[https]``."""

    listen: str = _check(parse_address)
    certificate: str
    private_key: str
    workers: int = _between(1, 64)
    requests_per_worker: int = _between(1, 10_000)
    connections_per_worker: int = _between(1, 100_000)
    trusted_proxies: tuple[str, ...] = _check(_judge_networks)


@dataclass(frozen=True, kw_only=True)
class SshSettings:
    """``[ssh]``."""

    listen: str = _check(parse_address)
    public_url: str = _check(_judge_ssh_url)
    max_connections: int = _between(1, 100_000)
    max_unauthenticated: int = _between(1, 100_000)
    max_unauthenticated_per_address: int = _between(1, 100_000)
    login_s: int = _between(1, 3600)
    login_attempts: int = _between(1, 100)
    idle_s: int = _between(1, 86_400)
    trusted_proxies: tuple[str, ...] = _check(_judge_networks)


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings:
    """``[database]``. The URL may hold a password and is left out of the repr."""

    url: str = dataclasses.field(repr=False, metadata={"judge": _judge_database_url})


@dataclass(frozen=True, kw_only=True)
class StorageSettings:
    """``[storage]``."""

    blobs: str = _matching(r".+", "a directory")


@dataclass(frozen=True, kw_only=True)
class KeySettings:
    """``[keys]``."""

    directory: str


@dataclass(frozen=True, kw_only=True)
class GitSettings:
    """``[git]``: what one push or fetch may cost."""

    max_pack_bytes: int = _between(1024, 2**46)
    max_object_bytes: int = _between(1024, 2**40)
    max_objects: int = _between(1, 2**31)
    max_refs_per_push: int = _between(1, 1_000_000)
    longest_request_s: int = _between(10, 7 * 86_400)
    fsck_ignore: tuple[str, ...] = _check(_judge_fsck_ids)
    fsck_skip: tuple[str, ...] = _check(_judge_object_ids)


@dataclass(frozen=True, kw_only=True)
class WorkerSettings:
    """``[worker]``."""

    sweep_every_s: int = _between(1, 7 * 86_400)
    checkpoint_every_s: int = _between(1, 86_400)


@dataclass(frozen=True, kw_only=True)
class LogSettings:
    """``[log]``."""

    level: str = _matching("debug|info|warning|error", '"debug", "info", "warning" or "error"')


@dataclass(frozen=True)
class Config:
    """Everything that is set, for one data directory."""

    data: Path  # absolute
    server: ServerSettings
    https: HttpsSettings
    ssh: SshSettings
    database: DatabaseSettings
    storage: StorageSettings
    keys: KeySettings
    git: GitSettings
    worker: WorkerSettings
    log: LogSettings

    @property
    def database_url(self) -> str:
        """The SQLAlchemy URL; SQLite in the data directory unless set."""
        from gitserver.storage.database import sqlite_url  # 0.2 s that the supervisor does not need

        return self.database.url or sqlite_url(self.data / "gitserver.db")

    @property
    def on_sqlite(self) -> bool:
        """Whether the database is a file of ours."""
        return not self.database.url or self.database.url.startswith("sqlite")

    @property
    def blobs(self) -> Path:
        """The directory of the sealed blobs."""
        return self.data / self.storage.blobs

    @property
    def spool(self) -> Path:
        """Where the nameless files of large pushes lie, sealed."""
        return self.data / "spool"

    @property
    def key_directory(self) -> Path:
        """Where every private key lives; beside the data directory unless set."""
        if self.keys.directory:
            return self.data / self.keys.directory
        return self.data.with_name(self.data.name + ".keys")

    @property
    def certificate(self) -> Path:
        """The certificate chain shown at the HTTPS door."""
        return self.data / (self.https.certificate or "tls/server.pem")

    @property
    def private_key(self) -> Path:
        """The private key of :attr:`certificate`."""
        if self.https.private_key:
            return self.data / self.https.private_key
        return self.key_directory / "tls" / "server.key"

    @property
    def ca_certificate(self) -> Path:
        """The local CA that clients are told to trust."""
        return self.data / "tls" / "ca.pem"

    @property
    def ca_key(self) -> Path:
        """The local CA's private key."""
        return self.key_directory / "tls" / "ca.key"

    @property
    def host_keys(self) -> Path:
        """The directory of the SSH host keys."""
        return self.key_directory / "ssh"

    @property
    def known_hosts(self) -> Path:
        """The SSH host keys' public halves, for clients."""
        return self.data / "ssh" / "known_hosts"

    @property
    def public_url(self) -> str:
        """The HTTPS door as people reach it, without a slash at the end."""
        return self.server.public_url.rstrip("/")

    @property
    def ssh_url(self) -> str:
        """The SSH door as people reach it, without a slash at the end."""
        if self.ssh.public_url:
            return self.ssh.public_url.rstrip("/")
        host = urlsplit(self.server.public_url).hostname or "localhost"
        address = Address(host, parse_address(self.ssh.listen).port)
        return f"ssh://{address}"

    def https_clone_url(self, repository: str) -> str:
        """What ``git clone`` is given for the HTTPS door."""
        return f"{self.public_url}/v1/repos/{repository}"

    def ssh_clone_url(self, repository: str) -> str:
        """What ``git clone`` is given for the SSH door; the user name ``git`` has the key found by fingerprint."""
        return f"{self.ssh_url.replace('ssh://', 'ssh://git@', 1)}/v1/repos/{repository}"


def load(data: Path, environ: Mapping[str, str]) -> Config:
    """Read the settings of the server whose data directory is *data*.

    Args:
        data: the data directory.
        environ: the environment; only names that start with ``GITSERVER_`` are read.

    Raises:
        NotADataDirectory: *data* has no ``gitserver.toml``.
        InvalidSetting: a setting is unknown, of the wrong type or out of range.
    """
    data = data.absolute()
    path = data / FILE_NAME
    try:
        text = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as missing:
        raise NotADataDirectory(data) from missing
    except PermissionError as denied:
        raise Unusable(f"{path} may not be read by this user; run gitserver as the owner of {data}") from denied
    return combine(data, text, environ)


def combine(data: Path, text: bytes, environ: Mapping[str, str]) -> Config:
    """The settings of *data*, where its ``gitserver.toml`` says *text*.

    Raises:
        InvalidSetting: as :func:`load`.
    """
    path = data / FILE_NAME
    found = _Layers(_parse(packaged_defaults(), "the packaged gitserver.toml"))
    found.lay_file(_parse(text, str(path)), str(path))
    found.lay_environment(environ)
    return found.settle(data)


def packaged_defaults() -> bytes:
    """``config/gitserver.toml`` as shipped."""
    return importlib.resources.files("gitserver.defaults").joinpath(FILE_NAME).read_bytes()


def _sections() -> dict[str, Any]:
    return {name: kind for name, kind in get_type_hints(Config).items() if dataclasses.is_dataclass(kind)}


def _parse(text: bytes, place: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text.decode("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as broken:
        raise InvalidSetting(place, f"is not TOML: {broken}") from broken


@dataclass(frozen=True)
class _Value:
    """One setting as found, and where: the place goes into the error."""

    value: Any
    place: str


class _Layers:
    """Settings from several places, the later ones on top."""

    def __init__(self, defaults: dict[str, Any]) -> None:
        self._values = {
            (section, key): _Value(value, f"the packaged gitserver.toml, {section}.{key}")
            for section, table in defaults.items()
            for key, value in table.items()
        }

    def lay_file(self, tables: dict[str, Any], place: str) -> None:
        """Put a parsed file on top; a name nobody knows is refused."""
        sections = sorted({section for section, _ in self._values})
        for section, table in tables.items():
            if section not in sections:
                raise InvalidSetting(place, f"there is no section [{section}]{_meant(section, sections)}")
            if not isinstance(table, dict):
                raise InvalidSetting(place, f"{section} is a section; write [{section}] and its settings below")
            for key, value in table.items():
                self._lay(section, key, value, f"{place}, {section}.{key}")

    def lay_environment(self, environ: Mapping[str, str]) -> None:
        """Put ``GITSERVER_SECTION_KEY`` variables on top."""
        sections = {section for section, _ in self._values}
        for name, text in environ.items():
            if not name.startswith("GITSERVER_"):
                continue
            section, _, key = name.removeprefix("GITSERVER_").lower().partition("_")
            if section in sections and key:
                place = f"environment variable {name}"
                self._lay(section, key, text, place)
                self._values[section, key] = _Value(_from_text(self._type(section, key), text, place), place)

    def settle(self, data: Path) -> Config:
        """Check every value and make the Config."""
        made: dict[str, Any] = {}
        for section, kind in _sections().items():
            fields = {}
            for field in dataclasses.fields(kind):
                found = self._values[section, field.name]
                fields[field.name] = _judged(found, self._type(section, field.name), field.metadata.get("judge"))
            made[section] = kind(**fields)
        return Config(data=data, **made)

    def _lay(self, section: str, key: str, value: object, place: str) -> None:
        if (section, key) not in self._values:
            known = sorted(k for s, k in self._values if s == section)
            raise InvalidSetting(place, f"there is no such setting in [{section}]{_meant(key, known)}")
        self._values[section, key] = _Value(value, place)

    @staticmethod
    def _type(section: str, key: str) -> Any:
        return get_type_hints(_sections()[section])[key]


def _meant(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, 1, 0.5)
    return f"; did you mean {close[0]}?" if close else f"; it knows {', '.join(known)}"


def _from_text(kind: Any, text: str, place: str) -> object:
    """The value of an environment variable, for a setting of type *kind*."""
    if kind is int:
        try:
            return int(text)
        except ValueError as wrong:
            raise InvalidSetting(place, f"expected a whole number, found {text!r}") from wrong
    if kind is str:
        return text
    return [part.strip() for part in text.split(",") if part.strip()]


def _judged(found: _Value, kind: Any, judge: Callable[[Any], object] | None) -> object:
    value = found.value
    if kind is int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidSetting(found.place, f"expected a whole number, found {value!r}")
    elif kind is str:
        if not isinstance(value, str):
            raise InvalidSetting(found.place, f"expected text in quotes, found {value!r}")
    else:
        if not isinstance(value, list) or not all(isinstance(part, str) for part in value):
            raise InvalidSetting(found.place, f'expected a list like ["a", "b"], found {value!r}')
        value = tuple(value)
    if judge is not None:
        try:
            judge(value)
        except ValueError as wrong:
            raise InvalidSetting(found.place, str(wrong)) from wrong
    return value
