"""The first tables."""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None

_LARGE_INTEGER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Take this step."""
    _make_storage()
    _make_journal()
    _make_identity()
    _make_git()
    _make_repositories()


def _make_storage() -> None:
    op.create_table(
        "data_key",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("account", sa.String(12), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("key_id", sa.String(128), nullable=False),
        sa.Column("wrapped", sa.LargeBinary(), nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.PrimaryKeyConstraint("id", name="data_key_pkey"),
    )
    op.create_index("data_key_owner", "data_key", ["account", "owner", "state"])
    op.create_index("data_key_state", "data_key", ["state"])
    op.create_table(
        "blob",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("account", sa.String(12), nullable=False),
        sa.Column("owner", sa.String(128), nullable=False),
        sa.Column("kind", sa.String(32), nullable=False),
        sa.Column("data_key", sa.String(32), nullable=False),
        sa.Column("sealed_bytes", _LARGE_INTEGER, nullable=False),
        sa.Column("plain_bytes", _LARGE_INTEGER, nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="blob_pkey"),
    )
    op.create_index("blob_owner", "blob", ["account", "owner"])


def _make_journal() -> None:
    op.create_table(
        "journal",
        sa.Column("id", _LARGE_INTEGER, nullable=False),
        sa.Column("at", _TIME, nullable=False),
        sa.Column("event", sa.String(), nullable=False),
        sa.Column("account", sa.String()),
        sa.Column("principal", sa.String()),
        sa.Column("principal_id", sa.String()),
        sa.Column("method", sa.String()),
        sa.Column("credential_id", sa.String()),
        sa.Column("mfa", _TIME),
        sa.Column("address", sa.String(), nullable=False),
        sa.Column("request_id", sa.String()),
        sa.Column("resource", sa.String()),
        sa.Column("repository_id", sa.String()),
        sa.Column("sequence", sa.BigInteger()),
        sa.Column("detail", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="journal_pkey"),
        sqlite_autoincrement=True,
    )
    op.create_index("journal_by_account", "journal", ["account", "id"])
    op.create_index("journal_by_repository", "journal", ["repository_id", "sequence"])
    op.create_index("journal_by_time", "journal", ["at"])


def _make_identity() -> None:
    op.create_table(
        "account",
        sa.Column("id", sa.String(12), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="account_pkey"),
    )
    op.create_table(
        "iam_user",
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("account", sa.String(12), nullable=False),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("name_key", sa.String(64), nullable=False),
        sa.Column("path", sa.String(512), nullable=False),
        sa.Column("administrator", sa.Boolean(), nullable=False),
        sa.Column("password_hash", sa.String()),
        sa.Column("created", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["account"], ["account.id"], name="iam_user_account_fkey"),
        sa.PrimaryKeyConstraint("id", name="iam_user_pkey"),
        sa.UniqueConstraint("account", "name_key", name="iam_user_account_name_key_key"),
    )
    op.create_table(
        "ssh_key",
        sa.Column("fingerprint", sa.String(64), nullable=False),
        sa.Column("key_type", sa.String(64), nullable=False),
        sa.Column("blob", sa.LargeBinary(), nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("status", sa.String(8), nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.Column("user_id", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["iam_user.id"], name="ssh_key_user_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="ssh_key_pkey"),
        sa.UniqueConstraint("fingerprint", name="ssh_key_fingerprint_key"),
    )
    op.create_index("ssh_key_user_id", "ssh_key", ["user_id"])
    op.create_table(
        "git_credential",
        sa.Column("user_name", sa.String(200), nullable=False),
        sa.Column("password_sha256", sa.LargeBinary(32), nullable=False),
        sa.Column("reset", _TIME),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("status", sa.String(8), nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.Column("user_id", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["iam_user.id"], name="git_credential_user_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="git_credential_pkey"),
        sa.UniqueConstraint("user_name", name="git_credential_user_name_key"),
    )
    op.create_index("git_credential_user_id", "git_credential", ["user_id"])
    op.create_table(
        "access_key",
        sa.Column("sealed_secret", sa.LargeBinary(), nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("status", sa.String(8), nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.Column("user_id", sa.String(32), nullable=False),
        sa.ForeignKeyConstraint(["user_id"], ["iam_user.id"], name="access_key_user_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="access_key_pkey"),
    )
    op.create_index("access_key_user_id", "access_key", ["user_id"])


def _make_git() -> None:
    op.create_table(
        "git_repository",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("account", sa.String(12), nullable=False),
        sa.Column("generation", _LARGE_INTEGER, nullable=False),
        sa.Column("head", sa.LargeBinary(1024)),
        sa.PrimaryKeyConstraint("id", name="git_repository_pkey"),
    )
    op.create_table(
        "git_ref",
        sa.Column("repository_id", sa.String(36), nullable=False),
        sa.Column("name", sa.LargeBinary(1024), nullable=False),
        sa.Column("oid", sa.LargeBinary(20), nullable=False),
        sa.Column("peeled", sa.LargeBinary(20)),
        sa.ForeignKeyConstraint(["repository_id"], ["git_repository.id"], name="git_ref_repository_id_fkey"),
        sa.PrimaryKeyConstraint("repository_id", "name", name="git_ref_pkey"),
    )
    op.create_table(
        "git_pack",
        sa.Column("id", sa.String(64), nullable=False),
        sa.Column("repository_id", sa.String(36), nullable=False),
        sa.Column("blob_id", sa.String(64), nullable=False),
        sa.Column("generation", _LARGE_INTEGER, nullable=False),
        sa.Column("objects", _LARGE_INTEGER, nullable=False),
        sa.Column("pack_bytes", _LARGE_INTEGER, nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.ForeignKeyConstraint(["repository_id"], ["git_repository.id"], name="git_pack_repository_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="git_pack_pkey"),
        sa.UniqueConstraint("blob_id", name="git_pack_blob_id_key"),
    )
    op.create_index("git_pack_repository_id", "git_pack", ["repository_id"])


def _make_repositories() -> None:
    op.create_table(
        "repository",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("account", sa.String(12), nullable=False),
        sa.Column("name", sa.String(100), nullable=False),
        sa.Column("description", sa.String(1000)),
        sa.Column("deny_non_fast_forwards", sa.Boolean(), nullable=False),
        sa.Column("deny_deletes", sa.Boolean(), nullable=False),
        sa.Column("created", _TIME, nullable=False),
        sa.Column("modified", _TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name="repository_pkey"),
        sa.UniqueConstraint("account", "name", name="repository_account_name_key"),
    )
