"""Which flow the data support: candidates compared on rows that are held back from them."""
