"""pretix: ticket shops of two organizers, and the pages of those who run them. It has given up MySQL and MariaDB."""

from __future__ import annotations

from typing import Final

from tests.apps.application import EMAIL, PASSWORD, POSTGRES, Application, Place

_CONFIG: Final = """
[pretix]
instance_name=crawled
url=http://localhost
datadir={folder}/data
[django]
secret=only-of-a-project-that-is-crawled-in-a-test-and-then-removed
[database]
backend=postgresql
name={NAME}
user={USER}
password={PASSWORD}
host={HOST}
port={PORT}
[redis]
location={redis}/0
sessions=false
"""
_FILL: Final = """
import datetime
from decimal import Decimal
from django.utils.timezone import now
from django_scopes import scopes_disabled
from pretix.base.models import Event, Item, Organizer, Question, Quota, Team, User, Voucher

with scopes_disabled():
    user = User.objects.create_superuser("{email}", "{password}")
    for number in range(2):
        organizer = Organizer.objects.create(name=f"Hall {{number}}", slug=f"hall{{number}}")
        team = Team.objects.create(
            organizer=organizer, name="all", all_events=True, all_event_permissions=True, all_organizer_permissions=True
        )
        team.members.add(user)
        for other in range(3):
            begin = now().replace(microsecond=0) + datetime.timedelta(days=100 + other)
            event = Event.objects.create(
                organizer=organizer, name=f"Concert {{other}}", slug=f"concert{{other}}", currency="EUR", live=True,
                date_from=begin, is_public=True, plugins="pretix.plugins.banktransfer,pretix.plugins.ticketoutputpdf",
            )
            event.set_defaults()
            quota = Quota.objects.create(event=event, name="seats", size=100)
            for place in ("Balcony", "Floor"):
                item = Item.objects.create(event=event, name=place, default_price=Decimal("23.00"), admission=True)
                quota.items.add(item)
            Voucher.objects.create(event=event, code=f"CODE{{number}}{{other}}")
            Question.objects.create(event=event, question="Vegetarian?", type="B")
"""


def prepare(place: Place) -> None:
    """Set it up from its release, as its manual does without a container."""
    place.write("pretix.cfg", _CONFIG.format(folder=place.folder, redis=place.redis, **place.database))
    manage = (str(place.python), "-m", "pretix")
    place.run(*manage, "migrate", "--verbosity", "0")
    place.run(*manage, "shell", text=_FILL.format(email=EMAIL, password=PASSWORD))


APPLICATION: Final = Application(
    name="pretix",
    packages=["pretix"],
    prepare=prepare,
    wsgi="pretix.wsgi",
    settings="pretix.settings",
    login="/control/login",
    fields={"email": EMAIL, "password": PASSWORD},
    seeds=["/", "/control/", "/hall0/", "/hall1/concert1/", "/api/v1/organizers/", "/control/organizers/"],
    avoid=["/redirect/", "/control/settings", "/control/reauth"],
    differs={r"DTSTAMP:\d{8}T\d{6}Z": "the time at which a calendar was written"},
    databases=[POSTGRES],
    without="It runs on PostgreSQL only: it has given up MySQL and MariaDB.",
    variables={"DJANGO_SETTINGS_MODULE": "pretix.settings"},
    remark="two organizers with three shops each",
)
