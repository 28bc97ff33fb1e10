"""Forms."""

from django import forms
from django.utils.text import get_valid_filename

from testproject.shop.models import Product


class AddToBasketForm(forms.Form):
    quantity = forms.IntegerField(min_value=1, max_value=99, initial=1)


class CheckoutForm(forms.Form):
    """Orders the basket; with `product`, that product at once."""

    email = forms.EmailField()
    product = forms.ModelChoiceField(Product.objects.listed(), required=False, widget=forms.HiddenInput)
    quantity = forms.IntegerField(min_value=1, max_value=99, required=False, widget=forms.HiddenInput)


class UploadForm(forms.Form):
    title = forms.CharField(max_length=120)
    file = forms.FileField(help_text="Anything: an invoice, a photograph of your teapot.")

    def clean_file(self):
        file = self.cleaned_data["file"]
        file.name = get_valid_filename(file.name)
        return file


class ReviewForm(forms.Form):
    stars = forms.TypedChoiceField(choices=[(n, "★" * n) for n in range(5, 0, -1)], coerce=int)
    text = forms.CharField(widget=forms.Textarea(attrs={"rows": 3}), required=False)
