"""Alembic's entry: migrates the connection that `open_catalog` hands over.

That connection is in a transaction already, so a migration happens whole or not at all.
"""

from alembic import context

from backups.catalog.columns import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
