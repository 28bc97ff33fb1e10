"""Something for each page to show."""

import io

import reversion
from django.contrib.auth import get_user_model
from django.contrib.sites.models import Site
from django.core.files.base import ContentFile
from django.core.management.base import BaseCommand
from django_celery_beat.models import IntervalSchedule, PeriodicTask
from django_celery_results.models import TaskResult
from guardian.shortcuts import assign_perm
from oauth2_provider.models import Application
from PIL import Image
from waffle.models import Switch

from garden.models import Advice, Bed, Can, Kind, Plant, Spade


class Command(BaseCommand):
    def add_arguments(self, parser):
        for name in ("user", "email", "password"):
            parser.add_argument(name)

    def handle(self, *args, **options):
        user = get_user_model().objects.create_superuser(options["user"], options["email"], options["password"])
        Site.objects.update_or_create(pk=1, defaults={"domain": "localhost", "name": "garden"})
        with reversion.create_revision():
            kinds = [Kind.objects.create(name=name) for name in ("Herbs", "Trees", "Roses")]
            kinds += [Kind.objects.create(name=f"Small {kind}", parent=kind) for kind in kinds]
        for kind in kinds[:3]:
            assign_perm("view_kind", user, kind)
        picture = io.BytesIO()
        Image.new("RGB", (80, 80), (40, 160, 40)).save(picture, "PNG")
        for number in range(40):
            found = Plant.objects.create(
                name=f"Plant {number:02}",
                kind=kinds[number % 6],
                origin=("DE", "NZ", "PE")[number % 3],
                price=number,
                status=("seed", "grown")[number % 2],
                picture=ContentFile(picture.getvalue(), f"{number}.png") if number % 4 == 0 else "",
            )
            found.tags.add("green", f"row-{number % 5}")
        root = Bed.add_root(name="North")
        for number in range(4):
            root.add_child(name=f"Bed {number}")
        for number in range(3):
            Spade.objects.create(name=f"spade {number}", width=number)
            Can.objects.create(name=f"can {number}", litres=number)
        for text in ("Water it.", "Wait."):
            advice = Advice.objects.language("en").create(text=text)
            advice.create_translation("de", text=f"de: {text}")
        Switch.objects.create(name="new", active=True)
        schedule = IntervalSchedule.objects.create(every=10, period=IntervalSchedule.SECONDS)
        PeriodicTask.objects.create(interval=schedule, name="water", task="garden.water")
        TaskResult.objects.create(task_id="1", status="SUCCESS")
        kinds_of = {"client_type": "confidential", "authorization_grant_type": "client-credentials"}
        Application.objects.create(name="app", user=user, client_id="client", client_secret="secret", **kinds_of)
