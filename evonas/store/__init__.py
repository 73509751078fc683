"""The SQL database that holds runs: the only room that imports sqlalchemy and alembic."""
