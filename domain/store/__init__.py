"""How histories are kept: the only part of the domain that knows a library."""
