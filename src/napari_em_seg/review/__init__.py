"""Review: what people decide about links, kept as a journal that loses nothing."""
