"""Values made from a corpus' clips by models: answers, codes, units. Joined to rows by `build --with`."""
