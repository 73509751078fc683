"""The mathematics: the language of graphs, the space, what a graph is, and its lowering to a torch module."""
