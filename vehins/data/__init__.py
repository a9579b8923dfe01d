"""Customer rows: the schema that types them, the sources they come from, the split, what is wrong with them."""
