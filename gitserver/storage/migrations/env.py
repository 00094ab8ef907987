"""What Alembic runs for each command: joins it to the connection that migrate.py opened."""

from typing import Any, Literal

from alembic import context

from gitserver.storage.columns import UtcTimeColumn


def _spell(kind: str, thing: Any, _autogenerate: Any) -> str | Literal[False]:
    """A migration must not change when our column types do: spell those as the plain types they are."""
    if kind == "type" and isinstance(thing, UtcTimeColumn):
        return "sa.DateTime(timezone=True)"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=context.config.attributes.get("metadata"),
    render_as_batch=True,  # SQLite changes a table by making it anew
    render_item=_spell,
    transactional_ddl=True,  # the transaction is open already; all steps are made, or none
    compare_type=True,
)
context.run_migrations()
