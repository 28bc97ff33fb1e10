"""Ordering, and what a customer ordered before."""

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.shortcuts import redirect, render

from testproject.shop.basket import Basket
from testproject.shop.forms import CheckoutForm
from testproject.shop.models import Order
from testproject.shop.orders import OrderError, place_order


def checkout(request):
    basket = Basket(request.session)
    form = CheckoutForm(request.POST or None, initial={"email": getattr(request.user, "email", "")})
    if request.method == "POST" and form.is_valid():
        at_once = form.cleaned_data["product"]
        wanted = {at_once.pk: form.cleaned_data["quantity"] or 1} if at_once else basket.wanted
        try:
            order = place_order(form.cleaned_data["email"], wanted, getattr(request.user, "customer", None))
        except OrderError as error:
            form.add_error(None, str(error))
        else:
            if not at_once:
                basket.clear()
            messages.success(request, f"Thank you. {order} of {order.total} € is on its way.")
            return redirect("catalogue")
    lines = basket.lines()
    total = sum(product.price * quantity for product, quantity in lines)
    status = 422 if form.errors else 200
    return render(request, "shop/checkout.html", {"form": form, "lines": lines, "total": total}, status=status)


@login_required
def account(request):
    orders = Order.objects.filter(customer__user=request.user).prefetch_related("lines__product")
    return render(request, "shop/account.html", {"orders": orders})
