"""${message}

Before you write: new columns are nullable or have a constant default (no
rewrite of the table); an index on a table with data is made CONCURRENTLY in a
revision of its own; NOT NULL comes in three steps. lock_timeout is 5 s and
statement_timeout 15 min, set in env.py for both directions.

Revision ID: ${up_revision}
Revises: ${down_revision | comma,n}
"""

import sqlalchemy as sa
from alembic import op
${imports if imports else ""}
revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = ${repr(branch_labels)}
depends_on = ${repr(depends_on)}


def upgrade() -> None:
    ${upgrades if upgrades else "pass"}


def downgrade() -> None:
    ${downgrades if downgrades else "pass"}
