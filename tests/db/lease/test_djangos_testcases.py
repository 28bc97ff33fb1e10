"""Django's own test classes work unchanged."""

from __future__ import annotations

from typing import Any

from tests.db.lease.site import Site


def suite(item: type[Any]) -> Any:
    import unittest

    from django.db import connection, transaction
    from django.test import TestCase, TransactionTestCase

    class InTransaction(TestCase):
        @classmethod
        def setUpTestData(cls) -> None:
            cls.first = item.objects.create(name="first")

        def test_one(self) -> None:
            item.objects.create(name="second")
            assert item.objects.count() == 2

        def test_two(self) -> None:
            assert item.objects.count() == 1
            with self.captureOnCommitCallbacks(execute=True) as callbacks:
                transaction.on_commit(lambda: item.objects.create(name="hook"))
            assert len(callbacks) == 1

        def test_three(self) -> None:
            with self.assertNumQueries(1):
                item.objects.count()
            assert connection.in_atomic_block

    class Real(TransactionTestCase):
        available_apps: tuple[str, ...] = ()

        def _fixture_teardown(self) -> None:
            item.objects.all().delete()

        def test_commit(self) -> None:
            with transaction.atomic():
                item.objects.create(name="real")
            assert item.objects.count() == 1

        def test_nothing_left(self) -> None:
            assert not item.objects.exists()

    loader = unittest.TestLoader()
    return unittest.TestSuite([loader.loadTestsFromTestCase(InTransaction), loader.loadTestsFromTestCase(Real)])


def test_djangos_testcases_pass_on_leases(site: Site) -> None:
    import unittest

    item = site.start()
    result = unittest.TestResult()
    suite(item).run(result)
    assert result.testsRun == 5
    assert result.wasSuccessful(), "\n".join(text for _, text in [*result.errors, *result.failures])
