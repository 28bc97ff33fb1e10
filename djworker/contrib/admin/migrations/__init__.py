"""The permissions come with them; there is no table."""
