"""Amplification of a candidate; the retrained figures in SQL."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

ADVANTAGE = """
UPDATE evaluation SET advantage = (
    SELECT avg(s.value - b.value) FROM score s
    JOIN evaluation r ON r.run = evaluation.run AND r.purpose = evaluation.purpose AND r.seed = evaluation.seed
        AND r.name = 'BN-ReLU' AND r.verdict = 'fitness'
    JOIN score b ON b.run = r.run AND b.evaluation = r.id AND b.proxy = s.proxy AND b.objective = 'accuracy'
    WHERE s.run = evaluation.run AND s.evaluation = evaluation.id AND s.objective = 'accuracy'
) WHERE purpose IN ('rerank', 'validate') AND verdict = 'fitness' AND advantage IS NULL
"""

# A later migration that alters `evaluation` or `run` drops the view first and creates it again.
RETRAINED = """
CREATE VIEW retrained AS
SELECT r.name AS run, m.purpose, m.birth, m.name, m.formula, m.seeds, m.seeds - m.measured AS failed,
    CASE WHEN m.seeds = m.measured THEN m.mean END AS advantage,
    CASE WHEN m.seeds = m.measured AND m.seeds > 1 THEN sqrt((
        SELECT sum((e.advantage - m.mean) * (e.advantage - m.mean)) FROM evaluation e
        WHERE e.run = m.run AND e.purpose = m.purpose AND e.layer = m.formula
            AND coalesce(e.birth, 0) = coalesce(m.birth, 0) AND coalesce(e.name, '') = coalesce(m.name, '')
    ) / (m.seeds - 1)) END AS spread
FROM (
    SELECT run, purpose, birth, name, layer AS formula, count(DISTINCT seed) AS seeds,
        count(advantage) AS measured, avg(advantage) AS mean
    FROM evaluation WHERE purpose IN ('rerank', 'validate') GROUP BY run, purpose, birth, name, layer
) m JOIN run r ON r.id = m.run
"""


def upgrade() -> None:
    for name in ("amplification", "amplification_constant", "amplification_sample"):
        op.add_column("candidate", sa.Column(name, sa.Float(), nullable=True))
    op.execute(ADVANTAGE)
    op.execute(RETRAINED)
