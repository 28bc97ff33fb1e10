"""The back office."""

from django.contrib import admin

from testproject.shop import models


@admin.register(models.Category)
class CategoryAdmin(admin.ModelAdmin):
    list_display = ["name", "slug"]
    prepopulated_fields = {"slug": ["name"]}


@admin.register(models.Product)
class ProductAdmin(admin.ModelAdmin):
    list_display = ["name", "category", "price", "stock", "listed"]
    list_filter = ["category", "listed"]
    list_select_related = ["category"]
    search_fields = ["name", "description"]
    prepopulated_fields = {"slug": ["name"]}


class OrderLineInline(admin.TabularInline):
    model = models.OrderLine
    raw_id_fields = ["product"]
    extra = 0


@admin.register(models.Order)
class OrderAdmin(admin.ModelAdmin):
    list_display = ["__str__", "email", "status", "total", "placed"]
    list_filter = ["status"]
    date_hierarchy = "placed"
    raw_id_fields = ["customer"]
    inlines = [OrderLineInline]


@admin.register(models.Customer)
class CustomerAdmin(admin.ModelAdmin):
    list_display = ["__str__", "city", "newsletter"]
    list_select_related = ["user"]
    raw_id_fields = ["user"]


@admin.register(models.Review)
class ReviewAdmin(admin.ModelAdmin):
    list_display = ["product", "customer", "stars", "written"]
    list_filter = ["stars"]
    list_select_related = ["product", "customer__user"]
    raw_id_fields = ["product", "customer"]


@admin.register(models.Document)
class DocumentAdmin(admin.ModelAdmin):
    list_display = ["title", "name", "size", "owner", "uploaded"]
    readonly_fields = ["size", "sha256"]

    def has_add_permission(self, _request):
        return False  # documents.store() measures what it stores; the upload page calls it
