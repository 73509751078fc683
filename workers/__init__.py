"""One evaluation, anywhere: a candidate is trained and judged. `evaluation.evaluate` is the only door."""
