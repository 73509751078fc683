"""One evaluation, anywhere: a candidate is trained on its proxies and judged. `evaluation.evaluate` is the only door."""
