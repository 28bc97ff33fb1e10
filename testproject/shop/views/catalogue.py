"""What everybody sees."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.paginator import Paginator
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from testproject.shop.basket import Basket
from testproject.shop.forms import AddToBasketForm, ReviewForm
from testproject.shop.models import Category, Customer, Product, Review

PAGE = 12


def catalogue(request):
    words = request.GET.get("q", "").strip()
    found = Product.objects.listed().search(words).rated().select_related("category")
    products = found.order_by("category__name", "name", "pk")
    chosen = request.GET.get("category")
    if chosen:
        products = products.filter(category__slug=chosen)
    page = Paginator(products, PAGE).get_page(request.GET.get("page"))
    return render(
        request, "shop/catalogue.html", {"page": page, "categories": Category.objects.all(), "chosen": chosen}
    )


def product(request, slug):
    goods = get_object_or_404(Product.objects.listed().rated().select_related("category"), slug=slug)
    context = {
        "product": goods,
        "reviews": goods.reviews.select_related("customer__user"),
        "basket_form": AddToBasketForm(),
        "review_form": ReviewForm(),
    }
    return render(request, "shop/product.html", context)


@require_POST
def add_to_basket(request, slug):
    goods = get_object_or_404(Product.objects.listed(), slug=slug)
    form = AddToBasketForm(request.POST)
    if form.is_valid():
        Basket(request.session).add(goods, form.cleaned_data["quantity"])
        messages.success(request, f"{goods.name} is in your basket.")
    return redirect(goods)


@login_required
@require_POST
def review(request, slug):
    goods = get_object_or_404(Product.objects.listed(), slug=slug)
    form = ReviewForm(request.POST)
    if form.is_valid():
        customer, _ = Customer.objects.get_or_create(user=request.user)
        Review.objects.update_or_create(product=goods, customer=customer, defaults=form.cleaned_data)
        messages.success(request, "Thank you.")
    return redirect(goods)
