"""A page or two of each package that has pages, or is seen in one."""

import django_filters
import django_tables2
from constance import config
from django import forms
from django.contrib import admin
from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import get_object_or_404
from django.template import engines
from django.urls import include, path
from drf_spectacular.views import SpectacularAPIView
from guardian.shortcuts import get_objects_for_user
from rest_framework import routers, serializers, viewsets
from rest_framework_simplejwt.views import TokenObtainPairView
from reversion.models import Version
from waffle import switch_is_active

from garden.models import Advice, Bed, Kind, Opening, Plant, Tool


class PlantTable(django_tables2.Table):
    class Meta:
        model = Plant
        fields = ("name", "kind", "origin", "price")


class PlantFilter(django_filters.FilterSet):
    class Meta:
        model = Plant
        fields = ("kind", "status")


class PlantForm(forms.ModelForm):
    class Meta:
        model = Plant
        fields = ("name", "kind", "origin", "price", "tags")


class PlantSerializer(serializers.ModelSerializer):
    class Meta:
        model = Plant
        fields = ("id", "name", "kind", "status", "price")


class PlantViews(viewsets.ModelViewSet):
    queryset = Plant.objects.all()
    serializer_class = PlantSerializer
    filterset_class = PlantFilter


router = routers.DefaultRouter()
router.register("plants", PlantViews)


def page(request, text, **context):
    return HttpResponse(engines["django"].from_string(text).render(context, request))


def index(request):
    plants = Plant.objects.select_related("kind").prefetch_related("tags")[: config.SHOWN]
    return page(
        request,
        """{% load thumbnail %}<h1>{{ config.GREETING }} {{ user }}</h1>
        <p>{% if new %}New!{% endif %} Open {{ opening.hours }}. {{ advice }} {{ htmx }}</p>
        {% for plant in plants %}<p><a href="/plants/{{ plant.pk }}/">{{ plant }}</a> {{ plant.kind }}
        {{ plant.origin.name }} {{ plant.price }} {{ plant.tags.all|join:", " }}
        {% if plant.picture %}<img src="{{ plant.picture.small.url }}">{% endif %}</p>{% endfor %}
        <a href="/table/">table</a> <a href="/filter/?status=grown">filter</a> <a href="/form/">form</a>
        <a href="/tree/">tree</a> <a href="/tools/">tools</a> <a href="/mine/">mine</a> <a href="/versions/">versions</a>
        <a href="/accounts/login/">log in</a> <a href="/api/plants/">API</a> <a href="/o/applications/">OAuth</a>
        <a href="/token/">token</a>""",
        plants=plants,
        new=switch_is_active("new"),
        opening=Opening.get_solo(),
        advice=Advice.objects.first().text,
        htmx=bool(request.htmx),
    )


def plant(request, pk):
    found = get_object_or_404(Plant, pk=pk)
    text = "{{ plant }} {{ plant.modified }} {% for past in plant.history.all %}{{ past.history_type }}{% endfor %}"
    return page(request, text, plant=found)


def table(request):
    shown = PlantTable(Plant.objects.all())
    django_tables2.RequestConfig(request, paginate={"per_page": 10}).configure(shown)
    return page(request, "{% load django_tables2 %}{% render_table table %}", table=shown)


def filtered(request):
    found = PlantFilter(request.GET, queryset=Plant.objects.all())
    return page(
        request,
        "{% load crispy_forms_tags %}<form>{{ found.form|crispy }}</form>{% for plant in found.qs %}{{ plant }} {% endfor %}",
        found=found,
    )


def form(request):
    text = (
        "{% load widget_tweaks %}<form>{% csrf_token %}{% for f in form %}{{ f|add_class:'wide' }}{% endfor %}</form>"
    )
    return page(request, text, form=PlantForm())


def tree(request):
    text = """{% load mptt_tags %}{% recursetree kinds %}<li>{{ node }} {{ children }}</li>{% endrecursetree %}
    {% for bed in beds %}{{ bed.depth }} {{ bed }} {% endfor %}"""
    return page(request, text, kinds=Kind.objects.all(), beds=Bed.get_tree())


def tools(request):
    return HttpResponse(", ".join(f"{type(tool).__name__} {tool.name}" for tool in Tool.objects.order_by("pk")))


@login_required
def mine(request):
    found = get_objects_for_user(request.user, "garden.view_kind", with_superuser=False)
    return HttpResponse(", ".join(map(str, found)))


def versions(request):
    return HttpResponse(", ".join(f"{version}" for version in Version.objects.get_for_model(Kind).order_by("pk")))


urlpatterns = [
    path("", index),
    path("plants/<int:pk>/", plant),
    path("table/", table),
    path("filter/", filtered),
    path("form/", form),
    path("tree/", tree),
    path("tools/", tools),
    path("mine/", mine),
    path("versions/", versions),
    path("admin/", admin.site.urls),
    path("accounts/", include("allauth.urls")),
    path("api/", include(router.urls)),
    path("api/schema/", SpectacularAPIView.as_view()),
    path("token/", TokenObtainPairView.as_view()),
    path("o/", include("oauth2_provider.urls", namespace="oauth2_provider")),
]
