"""One evaluation, anywhere: a candidate is judged by gates and trained. `evaluation.evaluate` does it; pools run it."""
