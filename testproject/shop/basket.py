"""The basket of a visitor, in the session."""

from testproject.shop.models import Product

KEY = "basket"


class Basket:
    """Product ids and quantities; nothing is read before it is asked for, so that most pages cost no session."""

    def __init__(self, session):
        self._session = session

    @property
    def wanted(self):
        """Product id to number of pieces."""
        return {int(pk): quantity for pk, quantity in self._session.get(KEY, {}).items()}

    def add(self, product, quantity=1):
        wanted = self.wanted
        self._store({**wanted, product.pk: wanted.get(product.pk, 0) + quantity})

    def clear(self):
        self._store({})

    def lines(self):
        """Pairs of product and quantity."""
        wanted = self.wanted
        return [(product, wanted[product.pk]) for product in Product.objects.filter(pk__in=wanted).order_by("name")]

    def __len__(self):
        return sum(self.wanted.values())

    def _store(self, wanted):
        self._session[KEY] = {str(pk): quantity for pk, quantity in wanted.items()}  # JSON has no other keys


def basket(request):
    """Context processor: `basket`, for the number in the header."""
    return {"basket": Basket(request.session)}
