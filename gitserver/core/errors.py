"""The six kinds of failure that may be shown to a caller."""


class Failure(Exception):
    """Something the caller may be told. Anything that is not a Failure is a bug.

    ``str(failure)`` is one plain sentence that says what is the matter and, where it can, what to do.
    ``code`` is the stable name that doors, logs and tests use; where AWS has a name for it, it is AWS's.
    """

    code = "InternalFailure"


class NotFound(Failure):
    """The thing asked for does not exist."""

    code = "NotFound"


class Conflict(Failure):
    """The thing is not in the state the caller took it to be in."""

    code = "Conflict"


class Denied(Failure):
    """The caller did not prove who they are, or may not do this."""

    code = "AccessDeniedException"


class Invalid(Failure):
    """The request breaks a rule that does not depend on any state."""

    code = "ValidationException"


class TooMuch(Failure):
    """A limit was reached: size, rate, count or time."""

    code = "LimitExceededException"


class Unavailable(Failure):
    """The server cannot do this now: damaged or missing data, no disk, no key."""

    code = "ServiceUnavailableException"
