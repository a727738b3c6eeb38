"""People rank answers, and edit the rows of datasets"""

import sqlalchemy as sa
import sqlmodel
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add ranking projects with their items, leases and labels; and edits of rows."""
    text, when = sqlmodel.sql.sqltypes.AutoString, sqlmodel.sql.sqltypes.UTCDateTime
    op.create_table(
        "edit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", when(), nullable=False),
        sa.Column("dataset", sa.Integer(), nullable=False),
        sa.Column("row_key", text(), nullable=False),
        sa.Column("person", text(), nullable=False),
        sa.Column("tags", sa.JSON(), nullable=False),
        sa.Column("excluded", text(), nullable=True),
        sa.Column("row", sa.JSON(none_as_null=True), nullable=True),
        sa.ForeignKeyConstraint(["dataset"], ["artifact.id"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_edit_dataset_row", "edit", ["dataset", "row_key"])
    op.create_table(
        "project",
        sa.Column("artifact", sa.Integer(), nullable=False),
        sa.Column("settings", sa.JSON(), nullable=False),
        sa.Column("paused_at", when(), nullable=True),
        sa.Column("closed_at", when(), nullable=True),
        sa.ForeignKeyConstraint(["artifact"], ["artifact.id"]),
        sa.PrimaryKeyConstraint("artifact"),
    )
    op.create_table(
        "guideline",
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("text", text(), nullable=False),
        sa.Column("person", text(), nullable=False),
        sa.Column("at", when(), nullable=False),
        sa.ForeignKeyConstraint(["project"], ["project.artifact"]),
        sa.PrimaryKeyConstraint("project", "version"),
    )
    op.create_table(
        "item",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("project", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("kind", text(), nullable=False),
        sa.Column("prompt_key", text(), nullable=False),
        sa.Column("prompt", sa.JSON(), nullable=False),
        sa.Column("answers", sa.JSON(), nullable=False),
        sa.Column("gold", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("wanted", sa.Integer(), nullable=False),
        sa.Column("of", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["of"], ["item.id"]),
        sa.ForeignKeyConstraint(["project"], ["project.artifact"]),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_item_of", "item", ["of"])
    op.create_index("ix_item_project_position", "item", ["project", "position"])
    op.create_index("ix_item_project_kind_wanted", "item", ["project", "kind", "wanted"])
    op.create_table(
        "lease",
        sa.Column("item", sa.Integer(), nullable=False),
        sa.Column("rater", text(), nullable=False),
        sa.Column("shown", sa.JSON(), nullable=False),
        sa.Column("given_at", when(), nullable=False),
        sa.Column("expires_at", when(), nullable=False),
        sa.ForeignKeyConstraint(["item"], ["item.id"]),
        sa.PrimaryKeyConstraint("item", "rater"),
    )
    op.create_index("ix_lease_rater", "lease", ["rater"])
    op.create_table(
        "label",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("client_event_id", text(), nullable=False),
        sa.Column("rankings", sa.Integer(), nullable=False),
        sa.Column("item", sa.Integer(), nullable=False),
        sa.Column("rater", text(), nullable=False),
        sa.Column("act", text(), nullable=False),
        sa.Column("tiers", sa.JSON(), nullable=False),
        sa.Column("accepted_above", sa.Integer(), nullable=True),
        sa.Column("strength", sa.Integer(), nullable=True),
        sa.Column("flags", sa.JSON(), nullable=False),
        sa.Column("better", text(), nullable=False),
        sa.Column("comment", text(), nullable=False),
        sa.Column("reason", text(), nullable=False),
        sa.Column("shown", sa.JSON(), nullable=False),
        sa.Column("active_ms", sa.Integer(), nullable=False),
        sa.Column("wall_ms", sa.Integer(), nullable=False),
        sa.Column("guideline", sa.Integer(), nullable=False),
        sa.Column("extra", sa.Boolean(), nullable=False),
        sa.Column("supersedes", sa.Integer(), nullable=True),
        sa.Column("at", when(), nullable=False),
        sa.ForeignKeyConstraint(["item"], ["item.id"]),
        sa.ForeignKeyConstraint(["rankings"], ["artifact.id"]),
        sa.ForeignKeyConstraint(["supersedes"], ["label.id"]),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("client_event_id"),
    )
    op.create_index("ix_label_item", "label", ["item"])
    op.create_index("ix_label_supersedes", "label", ["supersedes"])
    op.create_index("ix_label_rankings_item", "label", ["rankings", "item"])
    op.create_index("ix_label_rankings_rater", "label", ["rankings", "rater"])
