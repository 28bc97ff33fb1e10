"""What the shop knows: goods, people, orders and papers."""

from decimal import Decimal

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.urls import reverse
from django.utils import timezone


class Category(models.Model):
    name = models.CharField(max_length=60, unique=True)
    slug = models.SlugField(unique=True)
    description = models.TextField(blank=True)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "categories"

    def __str__(self):
        return self.name

    def get_absolute_url(self):
        return f"{reverse('catalogue')}?category={self.slug}"


class ProductQuerySet(models.QuerySet):
    def listed(self):
        return self.filter(listed=True)

    def rated(self):
        """Add `rating`, the mean of the reviews' stars or None, and `review_count`."""
        return self.annotate(rating=models.Avg("reviews__stars"), review_count=models.Count("reviews"))

    def search(self, words):
        found = models.Q(name__icontains=words) | models.Q(description__icontains=words)
        return self.filter(found) if words else self


class Product(models.Model):
    category = models.ForeignKey(Category, on_delete=models.PROTECT, related_name="products")
    name = models.CharField(max_length=120)
    slug = models.SlugField(unique=True)
    description = models.TextField(blank=True)
    price = models.DecimalField(max_digits=8, decimal_places=2, validators=[MinValueValidator(Decimal("0.01"))])
    stock = models.PositiveIntegerField(default=0)
    listed = models.BooleanField(default=True)
    added = models.DateTimeField(default=timezone.now)

    objects = ProductQuerySet.as_manager()

    class Meta:
        ordering = ["category__name", "name"]

    def __str__(self):
        return self.name

    def get_absolute_url(self):
        return reverse("product", args=[self.slug])


class Customer(models.Model):
    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="customer")
    street = models.CharField(max_length=120, blank=True)
    city = models.CharField(max_length=60, blank=True)
    newsletter = models.BooleanField(default=False)

    def __str__(self):
        return self.user.get_full_name() or self.user.get_username()


class Review(models.Model):
    product = models.ForeignKey(Product, on_delete=models.CASCADE, related_name="reviews")
    customer = models.ForeignKey(Customer, on_delete=models.CASCADE, related_name="reviews")
    stars = models.PositiveSmallIntegerField(validators=[MinValueValidator(1), MaxValueValidator(5)])
    text = models.TextField(blank=True)
    written = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-written", "-pk"]
        constraints = [models.UniqueConstraint(fields=["product", "customer"], name="one_review_per_customer")]

    def __str__(self):
        return f"{self.product}: {self.stars} of 5"


class Order(models.Model):
    class Status(models.TextChoices):
        PLACED = "placed"
        SHIPPED = "shipped"
        RETURNED = "returned"

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, null=True, blank=True, related_name="orders")
    email = models.EmailField()
    status = models.CharField(max_length=10, choices=Status, default=Status.PLACED)
    total = models.DecimalField(max_digits=10, decimal_places=2, default=Decimal(0))
    placed = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        ordering = ["-placed", "-pk"]

    def __str__(self):
        return f"Order {self.pk}"


class OrderLine(models.Model):
    order = models.ForeignKey(Order, on_delete=models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, on_delete=models.PROTECT, related_name="order_lines")
    quantity = models.PositiveIntegerField(validators=[MinValueValidator(1)])
    price = models.DecimalField(max_digits=8, decimal_places=2)  # of one piece, on the day

    def __str__(self):
        return f"{self.quantity} × {self.product}"


class Document(models.Model):
    """A file that somebody uploaded, or that the shop offers to everybody."""

    name = models.CharField(max_length=120, unique=True)
    title = models.CharField(max_length=120)
    file = models.FileField(upload_to="documents/")
    size = models.PositiveBigIntegerField(editable=False)
    sha256 = models.CharField(max_length=64, editable=False)
    owner = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True)
    uploaded = models.DateTimeField(default=timezone.now)

    class Meta:
        ordering = ["-uploaded", "-pk"]

    def __str__(self):
        return self.title

    def get_absolute_url(self):
        return reverse("download", args=[self.name])
