"""The admin of each model, with the package's own."""

from django.contrib import admin
from guardian.admin import GuardedModelAdmin
from import_export.admin import ImportExportModelAdmin
from mptt.admin import MPTTModelAdmin
from parler.admin import TranslatableAdmin
from polymorphic.admin import PolymorphicChildModelAdmin, PolymorphicParentModelAdmin
from reversion.admin import VersionAdmin
from simple_history.admin import SimpleHistoryAdmin
from solo.admin import SingletonModelAdmin
from treebeard.admin import TreeAdmin
from treebeard.forms import movenodeform_factory

from garden import models


@admin.register(models.Plant)
class PlantAdmin(ImportExportModelAdmin, SimpleHistoryAdmin):
    list_display = ("name", "kind", "origin", "price", "status")
    list_filter = ("status", "kind", "tags")


@admin.register(models.Bed)
class BedAdmin(TreeAdmin):
    form = movenodeform_factory(models.Bed)


@admin.register(models.Tool)
class ToolAdmin(PolymorphicParentModelAdmin):
    base_model = models.Tool
    child_models = (models.Spade, models.Can)


@admin.register(models.Spade, models.Can)
class ChildAdmin(PolymorphicChildModelAdmin):
    base_model = models.Tool


class KindAdmin(GuardedModelAdmin, VersionAdmin, MPTTModelAdmin):
    pass


admin.site.register(models.Kind, KindAdmin)
admin.site.register(models.Advice, TranslatableAdmin)
admin.site.register(models.Opening, SingletonModelAdmin)
