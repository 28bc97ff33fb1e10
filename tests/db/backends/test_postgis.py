"""GeoDjango on a lease, against a real PostGIS."""

from __future__ import annotations

import functools
from typing import Any

import gevent
import pytest

from tests.db.lease.conftest import _site
from tests.db.lease.site import Site, configure, held, query, request, view

ENGINE = "djworker.db.backends.postgis"
# Longitude, latitude. From Paris it is 344 km to London and 1 054 km to Madrid, by the great circle.
CITIES = {"Paris": (2.3522, 48.8566), "London": (-0.1276, 51.5072), "Madrid": (-3.7033, 40.4167)}


@pytest.fixture(params=["psycopg3", "psycopg2"])
def gis_site(request: pytest.FixtureRequest) -> Site:
    """PostGIS with both drivers."""
    site = _site(request, request.param, "transaction")
    site.engine = ENGINE
    return site


@functools.cache
def model() -> type[Any]:
    from django.contrib.gis.db import models

    class Place(models.Model):
        name = models.CharField(max_length=50)
        point = models.PointField()
        area = models.PointField(geography=True)

        class Meta:
            app_label = "lease"

    return Place


def start(site: Site, **pool: Any) -> type[Any]:
    """The extension, which only an administrator may create; the table, and three cities."""
    configure(site.driver, ENGINE)
    site.server.execute("CREATE EXTENSION postgis", dbname=site.database)
    site.start(create=False, **pool)
    place = model()
    from django.contrib.gis.geos import Point
    from django.db import connection

    connection._type_infos.update({name: {} for name in connection._type_infos})  # another database, other numbers

    def create() -> None:
        with connection.schema_editor() as editor:
            editor.create_model(place)
        for name, (x, y) in CITIES.items():
            place.objects.create(name=name, point=Point(x, y, srid=4326), area=Point(x, y, srid=4326))

    view(create)
    return place


def test_points_are_stored_read_and_found_by_distance(gis_site: Site) -> None:
    place = start(gis_site)

    def work() -> None:
        from django.contrib.gis.db.models.functions import Distance
        from django.contrib.gis.measure import D

        paris = place.objects.get(name="Paris")
        assert paris.point.coords == CITIES["Paris"]
        assert (paris.point.srid, paris.area.coords) == (4326, CITIES["Paris"])
        near = place.objects.filter(area__dwithin=(paris.area, D(km=500))).exclude(name="Paris")
        assert [found.name for found in near] == ["London"]
        ordered = place.objects.annotate(far=Distance("area", paris.area)).order_by("far")
        assert [(found.name, round(found.far.km, -1)) for found in ordered] == [
            ("Paris", 0),
            ("London", 340),
            ("Madrid", 1050),
        ]
        assert not held()

    for _ in range(3):
        view(work)


def test_types_are_registered_once_per_connection_and_the_version_asked_once(gis_site: Site) -> None:
    place = start(gis_site, max_size=2)
    asked: list[str] = []
    registered: list[Any] = []
    from django.db.backends.signals import connection_created

    def created(connection: Any, **_: Any) -> None:
        raw = connection.connection
        registered.append(not hasattr(raw, "adapters") or bool(raw.adapters.types.get("geometry")))

    connection_created.connect(created, weak=False)

    def work(number: int) -> int:
        from django.contrib.gis.geos import Point
        from django.db import connection

        def note(execute: Any, sql: str, *rest: Any) -> Any:
            asked.append(sql)
            return execute(sql, *rest)

        with connection.execute_wrapper(note):
            assert connection.ops.spatial_version >= (3,)
            query("SELECT pg_sleep(0.01)")
            return int(place.objects.filter(point__equals=Point(*CITIES["London"], srid=4326)).count())

    view(work, 0)
    assert sum("postgis_lib_version" in sql for sql in asked) == 1
    asked.clear()
    found = gevent.joinall([request(work, number) for number in range(20)], raise_error=True)
    assert [greenlet.value for greenlet in found] == [1] * 20
    assert len(asked) == 40, "nothing but the two statements of each request"
    assert gis_site.sessions() <= 2
    assert len(registered) <= 2
    assert all(registered)
    connection_created.disconnect(created)


def test_the_extension_is_created_by_django(gis_site: Site) -> None:
    """`prepare_database` of a test run or of migrate, where the user may create extensions."""
    place = start(gis_site)
    gis_site.server.execute("DROP TABLE lease_place", dbname=gis_site.database)
    gis_site.server.execute("DROP EXTENSION postgis CASCADE", dbname=gis_site.database)
    gis_site.server.execute("ALTER ROLE app SUPERUSER")

    def again() -> None:
        from django.contrib.gis.geos import Point
        from django.db import connection

        connection.prepare_database()
        with connection.schema_editor() as editor:
            editor.create_model(place)
        place.objects.create(name="Oslo", point=Point(10.75, 59.91, srid=4326), area=Point(10.75, 59.91, srid=4326))
        assert place.objects.get().point.x == 10.75

    try:
        view(again)
    finally:
        gis_site.server.execute("ALTER ROLE app NOSUPERUSER")
