"""One model for each package that has something to say about models."""

from auditlog.registry import auditlog
from django.db import models
from django_countries.fields import CountryField
from djmoney.models.fields import MoneyField
from easy_thumbnails.fields import ThumbnailerImageField
from model_utils import Choices
from model_utils.models import TimeStampedModel
from mptt.models import MPTTModel, TreeForeignKey
from parler.models import TranslatableModel, TranslatedFields
from polymorphic.models import PolymorphicModel
from simple_history.models import HistoricalRecords
from solo.models import SingletonModel
from taggit.managers import TaggableManager
from treebeard.mp_tree import MP_Node


class Kind(MPTTModel):
    name = models.CharField(max_length=50)
    parent = TreeForeignKey("self", models.CASCADE, null=True, blank=True, related_name="children")

    def __str__(self):
        return self.name


class Plant(TimeStampedModel):
    STATUS = Choices("seed", "grown")
    status = models.CharField(max_length=10, choices=STATUS, default=STATUS.seed)
    name = models.CharField(max_length=50)
    kind = models.ForeignKey(Kind, models.CASCADE)
    origin = CountryField()
    price = MoneyField(max_digits=10, decimal_places=2, default_currency="EUR")
    picture = ThumbnailerImageField(blank=True, upload_to="plants")
    tags = TaggableManager()
    history = HistoricalRecords()

    class Meta:
        ordering = ("name",)

    def __str__(self):
        return self.name


class Bed(MP_Node):
    name = models.CharField(max_length=50)

    def __str__(self):
        return self.name


class Tool(PolymorphicModel):
    name = models.CharField(max_length=50)


class Spade(Tool):
    width = models.IntegerField()


class Can(Tool):
    litres = models.IntegerField()


class Advice(TranslatableModel):
    translations = TranslatedFields(text=models.CharField(max_length=200))


class Opening(SingletonModel):
    hours = models.CharField(max_length=50, default="9 to 5")


auditlog.register(Plant)
