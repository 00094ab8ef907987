"""A commit whose outcome nobody knows."""

import pytest
from sqlalchemy import text

from gitserver.storage.database import CommitUncertain, Database
from tests.postgres import Cluster


def test_a_connection_lost_at_the_commit_leaves_the_outcome_open(postgres: Cluster) -> None:
    database, other = (Database(postgres.create("uncertain")), Database(postgres.url("uncertain")))
    called: list[str] = []

    def lose_connection() -> None:
        with database.transaction() as tx:
            database.after_commit(tx, lambda: called.append("committed"))
            database.after_rollback(tx, lambda: called.append("rolled back"))
            process = tx.scalar(text("SELECT pg_backend_pid()"))
            with other.reading() as killer:
                killer.execute(text("SELECT pg_terminate_backend(:process, 5000)"), {"process": process})

    with pytest.raises(CommitUncertain, match="look whether it was made"):
        lose_connection()

    assert called == []
    database.close()
    other.close()
