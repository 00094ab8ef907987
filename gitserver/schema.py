"""Every table there is, for migrations: importing this module fills ``metadata``."""

import gitserver.git.tables
import gitserver.iam.tables
import gitserver.journal.tables
import gitserver.repos.tables
import gitserver.storage.tables  # noqa: F401 - as the ones above: their rows register themselves
from gitserver.storage.database import Base

metadata = Base.metadata
