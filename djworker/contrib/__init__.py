"""Applications for a Django project, beside the one that serves it. They load like any other; the server does not need them."""
