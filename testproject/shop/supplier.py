"""The supplier, who tells over HTTP when more of a product comes, and takes his time."""

import json
from urllib.parse import urlencode, urljoin
from urllib.request import urlopen

from django.conf import settings

TIMEOUT = 30  # seconds


def delivery(product, ms):
    """Ask when more of this product comes. ms: how long the stand-in shall think. Raises OSError."""
    url = urljoin(settings.SLOW_SERVICE_URL, "/delivery?" + urlencode({"product": product.slug, "ms": ms}))
    with urlopen(url, timeout=TIMEOUT) as answer:  # noqa: S310  (the URL is ours)
        return json.load(answer)
