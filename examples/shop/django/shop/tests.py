"""Tests of the application with an issuer of their own. The database of the tests is made once, by a superuser:

    CREATE DATABASE test_shop OWNER shop_owner;
    \\connect test_shop
    CREATE EXTENSION pg_tenancy;
    ALTER DATABASE test_shop SET tenancy.several_identities = on;

and `manage.py test --keepdb` leaves it in place.
"""

from django.db import connection
from django.test import TestCase, TransactionTestCase
from pg_tenancy.django import identity
from pg_tenancy.testing import Issuer

from shop.models import Customer


def tenants() -> Issuer:
    """Two organizations with a member each, and who signs their tokens."""
    issuer = Issuer.register(connection, "https://shop.example/", audience="shop")
    for name, subject in (("Acme", "alice"), ("Globex", "bob")):
        with connection.cursor() as cursor:
            cursor.execute("SELECT tenancy.create_organization(%s)", [name])
            [organization] = cursor.fetchone()
        issuer.add_member(connection, organization, subject, "admin")
    return issuer


class TwoTenantsInOneTransaction(TestCase):
    """TestCase keeps a transaction open around each test, in which both tenants act: tenancy.several_identities."""

    @classmethod
    def setUpTestData(cls) -> None:
        cls.issuer = tenants()

    def names(self, subject: str) -> list[str]:
        return self.client.get("/customers", headers=self.issuer.headers(subject)).json()

    def create(self, subject: str, name: str) -> int:
        body = {"name": name, "email": ""}
        headers = self.issuer.headers(subject)
        return self.client.post("/customers", body, content_type="application/json", headers=headers).status_code

    def test_nobody_sees_what_another_tenant_wrote(self) -> None:
        self.assertEqual(self.create("alice", "Ada"), 201)
        self.assertEqual(self.names("bob"), [])
        self.assertEqual(self.create("bob", "Bert"), 201)
        self.assertEqual(self.names("alice"), ["Ada"])
        self.assertEqual(self.names("bob"), ["Bert"])

    def test_each_test_begins_without_rows(self) -> None:
        self.assertEqual(self.names("alice"), [])
        self.assertEqual(self.client.get("/customers").status_code, 401)

    def test_models_are_used_with_an_identity(self) -> None:
        with identity(self.issuer.token("alice")):
            Customer.objects.create(name="Ada", email="")
        with identity(self.issuer.token("bob")):
            self.assertEqual(Customer.objects.count(), 0)


class TwoTenantsInTransactionsOfTheirOwn(TransactionTestCase):
    """TransactionTestCase commits, and empties the tables afterwards. It needs no setting."""

    def test_nobody_sees_what_another_tenant_wrote(self) -> None:
        issuer = tenants()
        with identity(issuer.token("alice")):
            Customer.objects.create(name="Ada", email="")
        self.assertEqual(self.client.get("/customers", headers=issuer.headers("alice")).json(), ["Ada"])
        self.assertEqual(self.client.get("/customers", headers=issuer.headers("bob")).json(), [])
