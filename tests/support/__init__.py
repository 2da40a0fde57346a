"""What tests share: captures by hand, the corpus, oracles and readers of other formats."""
