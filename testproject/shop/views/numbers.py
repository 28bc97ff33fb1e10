"""Numbers in a query string."""

from django.core.exceptions import BadRequest


def number(request, name, default, most=10_000_000.0):
    """Return a number of the query string, from 0 to `most`. Raises BadRequest."""
    try:
        value = float(request.GET.get(name, default))
    except ValueError as error:
        raise BadRequest(f"{name} is not a number") from error
    if not 0 <= value <= most:
        raise BadRequest(f"{name} is not between 0 and {most}")
    return value
