"""How `evonas.replace` finds the norms of a model, and what a new layer takes over from them."""
