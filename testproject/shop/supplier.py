"""The supplier, who tells over HTTP when more of a product comes, and takes his time."""

import json
from http.client import HTTPException
from urllib.parse import urlencode, urljoin
from urllib.request import urlopen

from django.conf import settings

TIMEOUT = 90  # seconds; he may be asked to think for 60


class SupplierError(Exception):
    """The supplier does not answer, or says what nobody understands."""


def delivery(product, ms):
    """Ask when more of this product comes. ms: how long the stand-in shall think. Raises SupplierError."""
    url = urljoin(settings.SLOW_SERVICE_URL, "/delivery?" + urlencode({"product": product.slug, "ms": ms}))
    try:
        with urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310  (the URL is ours)
            return json.load(answer)
    except (OSError, HTTPException, ValueError) as error:
        raise SupplierError(f"The supplier does not answer: {error}") from error
