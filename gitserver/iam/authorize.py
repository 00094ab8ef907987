"""May this caller do that.

For now: administrators may do everything in their own account, whoever can read the data directory may do everything,
and nobody else may do anything. The administrator flag is read at each decision, so taking it away, or deleting the
user, works at the next request.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from gitserver.core.arn import Arn, root_arn
from gitserver.core.caller import Caller
from gitserver.core.errors import Denied
from gitserver.iam import events
from gitserver.iam.tables import UserRow
from gitserver.journal.journal import Journal
from gitserver.storage.database import Database


@dataclass(frozen=True)
class Decision:
    """Yes or no, and because of what."""

    allowed: bool
    because: str  # goes on where "because" ends


class AccessDenied(Denied):
    """The caller is known, and may not do this.

    Source: IAM user guide, "Troubleshoot access denied error messages".
    """

    def __init__(self, caller: Caller, action: str, resource: Arn, because: str) -> None:
        super().__init__(
            f"User: {caller.principal} is not authorized to perform: {action} on resource: {resource} "
            f"because {because} (request id {caller.request_id})"
        )
        self.action, self.resource, self.because = action, resource, because


class Authorizer:
    """Decides, and journals what it refused."""

    def __init__(self, database: Database, journal: Journal) -> None:
        self._db = database
        self._journal = journal

    def decide(
        self,
        caller: Caller,
        action: str,
        resource: Arn,
        context: Mapping[str, str] | None = None,  # noqa: ARG002 - policies' conditions will read it
    ) -> Decision:
        """Whether *caller* may do *action* to *resource*. Writes nothing.

        Args:
            caller: who asks.
            action: ``service:Operation``, such as ``codecommit:GitPush``.
            resource: on what; it need not exist. An ARN without an account stands for the whole server.
            context: condition keys of the request, such as ``codecommit:References``.
        """
        if caller.proof.method == "local" and caller.principal == root_arn(caller.account):
            return Decision(True, "the caller can read the server's data directory")
        if resource.account != caller.account:
            return Decision(False, f"no resource-based policy allows the {action} action")
        with self._db.reading() as tx:
            user = tx.get(UserRow, caller.principal_id)
            administrator = user is not None and user.account == caller.account and user.administrator
        if user is None:
            return Decision(False, "the user no longer exists")
        if not administrator:
            return Decision(False, f"no identity-based policy allows the {action} action")
        return Decision(True, "the user is an administrator of the account")

    def require(self, caller: Caller, action: str, resource: Arn, context: Mapping[str, str] | None = None) -> None:
        """Go on, or journal the denial and raise. Ask before a transaction opens, never inside one.

        Raises:
            AccessDenied: *caller* may not.
        """
        decision = self.decide(caller, action, resource, context)
        if not decision.allowed:
            self._journal.record(caller, events.AccessDenied(resource, action, decision.because, dict(context or {})))
            raise AccessDenied(caller, action, resource, decision.because)
