"""Amazon resource names: the one spelling of *what* that policies, journal and API share."""

from dataclasses import dataclass

from gitserver.core.errors import Invalid
from gitserver.core.ids import AccountId


class InvalidArn(Invalid):
    """The text is not an ARN."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text!r} is not an ARN; an ARN reads arn:PARTITION:SERVICE:REGION:ACCOUNT:RESOURCE")


@dataclass(frozen=True)
class Arn:
    """``arn:partition:service:region:account:resource``.

    Source: IAM user guide, "Identify AWS resources with Amazon Resource Names (ARNs)".
    """

    service: str
    region: str  # empty for global services
    account: str  # empty where the service leaves it out
    resource: str  # may itself contain ':' and '/'
    partition: str = "aws"

    def __str__(self) -> str:
        return ":".join(("arn", self.partition, self.service, self.region, self.account, self.resource))


def parse_arn(text: str) -> Arn:
    """Take *text* apart.

    Raises:
        InvalidArn: *text* has fewer than six parts, or does not start with ``arn:``.
    """
    parts = text.split(":", 5)
    if len(parts) != 6 or parts[0] != "arn" or not parts[1] or not parts[2] or not parts[5]:
        raise InvalidArn(text)
    return Arn(partition=parts[1], service=parts[2], region=parts[3], account=parts[4], resource=parts[5])


def repository_arn(region: str, account: AccountId, name: str) -> Arn:
    """A repository: ``arn:aws:codecommit:REGION:ACCOUNT:NAME``."""
    return Arn("codecommit", region, account, name)


def user_arn(account: AccountId, name: str, path: str = "/") -> Arn:
    """A user: ``arn:aws:iam::ACCOUNT:user/PATH/NAME``. *path* starts and ends with ``/``."""
    return Arn("iam", "", account, f"user{path}{name}")


def root_arn(account: AccountId) -> Arn:
    """The account itself: ``arn:aws:iam::ACCOUNT:root``."""
    return Arn("iam", "", account, "root")
