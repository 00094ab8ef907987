"""What happens to repositories."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from gitserver.journal.event import Event


@dataclass(frozen=True)
class RepositoryCreated(Event):
    """A repository came into being, empty."""

    name: ClassVar[str] = "RepositoryCreated"
    repository_id: str
    repository_name: str


@dataclass(frozen=True)
class RepositoryDeleted(Event):
    """A repository is gone, and so is the key to its objects."""

    name: ClassVar[str] = "RepositoryDeleted"
    repository_id: str
    repository_name: str


@dataclass(frozen=True)
class RepositoryRulesChanged(Event):
    """What a repository lets nobody do was changed."""

    name: ClassVar[str] = "RepositoryRulesChanged"
    repository_id: str
    deny_non_fast_forwards: bool
    deny_deletes: bool


@dataclass(frozen=True)
class RefChange:
    """One ref before and after. Ids are 40 hexadecimal digits; all zeros: it did not, or does not, exist."""

    ref: str
    old: str
    new: str


@dataclass(frozen=True)
class RefsUpdated(Event):
    """A push moved refs; committed together with them."""

    name: ClassVar[str] = "RefsUpdated"
    repository_id: str
    changes: Sequence[RefChange]
    push_options: Sequence[str]


@dataclass(frozen=True)
class RepositoryRead(Event):
    """Somebody opened a repository to fetch from it, or to take an archive of it."""

    name: ClassVar[str] = "RepositoryRead"
    repository_id: str
    command: str  # git-upload-pack or git-upload-archive
