"""
A PostgreSQL of our own, for the day nobody has set DATABASE_URL.

The first user of a directory starts the server, the others join it, the last
one stops it. Who is still there is known by file locks alone: they vanish with
a killed process, so nothing has to be cleaned up after one.
"""

from app.embedded.binaries import find_binaries
from app.embedded.postgres import EmbeddedServer, running_postgres

__all__ = ["EmbeddedServer", "find_binaries", "running_postgres"]
