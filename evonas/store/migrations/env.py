"""Alembic's entry: the connection is handed over by evonas.store.writer, never configured here."""

from alembic import context

from evonas.store.tables import VERSION_TABLE, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    render_as_batch=True,
)
with context.begin_transaction():
    context.run_migrations()
