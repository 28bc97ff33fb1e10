"""django-pgschemas: a schema for each tenant, chosen by the name of the host."""
