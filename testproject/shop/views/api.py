"""The JSON API."""

import json

from django.core.exceptions import ValidationError
from django.core.paginator import Paginator
from django.core.validators import validate_email
from django.http import JsonResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from testproject.shop.models import Product
from testproject.shop.orders import OrderError, place_order

PAGE = 20


def _as_dict(product):
    return {
        "id": product.pk,
        "name": product.name,
        "slug": product.slug,
        "category": product.category.name,
        "price": product.price,
        "stock": product.stock,
    }


@require_GET
def products(request):
    found = Product.objects.listed().select_related("category").order_by("pk")
    page = Paginator(found, PAGE).get_page(request.GET.get("page"))
    return JsonResponse(
        {"count": page.paginator.count, "pages": page.paginator.num_pages, "products": [_as_dict(one) for one in page]},
    )


@require_GET
def product(_request, pk):
    found = get_object_or_404(Product.objects.listed().select_related("category"), pk=pk)
    reviews = list(found.reviews.values("stars", "text", "written"))
    return JsonResponse({**_as_dict(found), "description": found.description, "reviews": reviews})


@csrf_exempt  # no session, no cookie: nothing to forge
@require_POST
def order(request):
    """Order with `{"email": …, "lines": [{"product": 1, "quantity": 2}, …]}`."""
    try:
        data = json.loads(request.body)
        email = data["email"]
        validate_email(email)
        wanted = {int(line["product"]): int(line["quantity"]) for line in data["lines"]}
    except (ValueError, KeyError, TypeError, ValidationError):
        return JsonResponse({"error": "This is not an order."}, status=400)
    try:
        placed = place_order(email, wanted)
    except OrderError as error:
        return JsonResponse({"error": str(error)}, status=409)
    return JsonResponse({"order": placed.pk, "total": placed.total}, status=201)
