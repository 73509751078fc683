"""Pictures of graphs, and the pages of docs/."""
