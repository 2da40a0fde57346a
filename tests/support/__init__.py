"""Shared by the tests: captures by hand, the corpus, oracles and readers of other formats."""
