"""Amazon resource names: the one spelling of *what* that policies, journal and API share."""

from dataclasses import dataclass

from gitserver.core.ids import AccountId


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


def repository_arn(region: str, account: AccountId, name: str) -> Arn:
    """A repository: ``arn:aws:codecommit:REGION:ACCOUNT:NAME``."""
    return Arn("codecommit", region, account, name)


def user_arn(account: AccountId, name: str, path: str = "/") -> Arn:
    """A user: ``arn:aws:iam::ACCOUNT:user/PATH/NAME``. *path* starts and ends with ``/``."""
    return Arn("iam", "", account, f"user{path}{name}")


def root_arn(account: AccountId) -> Arn:
    """The account itself: ``arn:aws:iam::ACCOUNT:root``."""
    return Arn("iam", "", account, "root")
