"""Work beside and after the search."""
