"""One query, many queries, and a query before and after somebody else's slow service."""

from django.db.models import Avg, Count, F, Sum
from django.http import JsonResponse
from django.shortcuts import render

from testproject.shop.models import Category, Order, OrderLine, Product, Review
from testproject.shop.supplier import SupplierError, delivery
from testproject.shop.views.numbers import number


def db(_request):
    return JsonResponse(Product.objects.order_by("pk").values("id", "name", "price", "stock").first() or {})


def wait(request):
    """What is in stock, when the supplier brings more, and what is in stock after that answer."""
    ms = int(number(request, "ms", 100, most=60_000))
    product = Product.objects.order_by("pk").first()
    if product is None:
        return JsonResponse({"error": "The shop is empty: manage.py seed fills it."}, status=503)
    try:
        answer = delivery(product, ms)
    except SupplierError as error:
        return JsonResponse({"error": str(error)}, status=502)
    stock = Product.objects.values_list("stock", flat=True).get(pk=product.pk)
    return JsonResponse({"product": product.name, "stock": [product.stock, stock], "delivery": answer})


def report(request):
    """Figures for each category, each asked for by itself: as such reports are."""
    categories = [_figures(category) for category in Category.objects.all()]
    months = (
        Order.objects.values(month=F("placed__month"))
        .annotate(orders=Count("pk"), revenue=Sum("total"))
        .order_by("month")
    )
    return render(request, "shop/report.html", {"categories": categories, "months": months})


def _figures(category):
    sold = OrderLine.objects.filter(product__category=category)
    return {
        "category": category,
        "products": category.products.count(),
        "in_stock": category.products.aggregate(pieces=Sum("stock"))["pieces"],
        "revenue": sold.aggregate(sum=Sum(F("price") * F("quantity")))["sum"],
        "bestseller": category.products.annotate(sold=Sum("order_lines__quantity")).order_by("-sold", "pk").first(),
        "stars": Review.objects.filter(product__category=category).aggregate(mean=Avg("stars"))["mean"],
    }
