"""Django over the shop: its migrations as the owner of the tables, and its requests as the application by the pooler."""

import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
from unittest import mock

import django
import psycopg
from django.test import override_settings
from pg_tenancy.psycopg import identity as psycopg_identity
from pg_tenancy.psycopg import sqlstate_of
from psycopg import sql

from shop_database import ACME, GLOBEX, OWNER, Shop, address

TABLES = [
    f"shop_{name}"
    for name in "address category customer invoice payment product purchase purchaseline shipment warehouse".split()
]


class Django(Shop):
    example = "django"

    @classmethod
    def manage(cls, *commands, fails=False):
        """Commands of manage.py in a process of their own, as the owner of the tables. Returns what they say."""
        environment = {
            **os.environ,
            "PGDATABASE": cls.database.removeprefix(cls.prefix),
            "PGUSER": OWNER,
            "DJANGO_SETTINGS_MODULE": "site_of_shop.settings",
        }
        run = "import sys; from django.core.management import execute_from_command_line as run\n"
        run += "for command in sys.argv[1:]: run(['manage.py', *command.split()])"
        done = subprocess.run(
            [sys.executable, "-B", "-c", run, *commands],
            cwd=cls.folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if (done.returncode != 0) != fails:
            raise AssertionError(f"manage.py {commands} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout


class Migrations(Django):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.models_at_first = (cls.folder / "shop" / "models.py").read_text()
        cls.manage("makemigrations shop", "migrate")
        cls.problems = cls.protect()

    def change_models(self, *changes):
        path = self.folder / "shop" / "models.py"
        text = path.read_text()
        for old, new in changes:
            self.assertIn(old, text)
            text = text.replace(old, new)
        path.write_text(text)

    def migrate(self, name):
        said = self.manage(f"makemigrations shop --name {name}", "migrate", "makemigrations --check")
        self.assertIn("No changes detected", said)

    def write_migration(self, number, name, after, *operations):
        (self.folder / "shop" / "migrations" / f"{number}_{name}.py").write_text(
            "from django.db import migrations, models\n\n\n"
            + "def lower_case(apps, schema_editor):\n"
            + "    schema_editor.execute(\"SELECT tenancy.begin_maintenance('lower case of addresses')\")\n"
            + "    apps.get_model('shop', 'Customer').objects.update(email='lower')\n\n\n"
            + f"class Migration(migrations.Migration):\n    dependencies = [('shop', '{after}')]\n"
            + f"    operations = [{', '.join(operations)}]\n"
        )

    def assert_nothing_to_migrate(self):
        self.assertIn("No changes detected", self.manage("makemigrations --check --dry-run"))

    def as_member(self, subject, query, *arguments):
        with psycopg.connect(**address(self.database), prepare_threshold=None) as connection:
            with psycopg_identity(connection, self.issuer.token(subject)):
                cursor = connection.execute(query, arguments)
                return cursor.fetchall() if cursor.description else cursor.rowcount

    def assert_own_rows_only(self):
        self.assertEqual(self.as_member("alice", "SELECT name FROM shop_customer"), [("acme",)])
        self.assertEqual(self.as_member("bob", "SELECT name FROM shop_customer"), [("globex",)])

    def test_the_loop_of_a_team_goes_on_after_protection(self):
        self.assertEqual(self.problems, {table: None for table in TABLES})
        self.assert_protected(TABLES)
        self.assert_nothing_to_migrate()
        sold = {}
        for subject, name in (("alice", "acme"), ("bob", "globex")):
            insert = "INSERT INTO shop_customer (name, email) VALUES (%s, 'UPPER') RETURNING id"
            [(customer,)] = self.as_member(subject, insert, name)
            insert = "INSERT INTO shop_purchase (customer_id, placed_at) VALUES (%s, now()) RETURNING id"
            [(sold[subject],)] = self.as_member(subject, insert, customer)
        self.assert_own_rows_only()

        # A new model; its table is protected by the statement that makes it. The foreign key follows in another one.
        path = self.folder / "shop" / "models.py"
        coupon = (
            "\n\nclass Coupon(OfOrganization):\n    purchase = models.ForeignKey(Purchase, models.CASCADE)\n"
            "    code = models.TextField()\n"
        )
        path.write_text(self.models_at_first + coupon)
        self.migrate("coupon")
        self.assert_protected([*TABLES, "shop_coupon"])
        with self.assertRaises(psycopg.Error) as refused:
            self.as_member("alice", "INSERT INTO shop_coupon (purchase_id, code) VALUES (%s, '')", sold["bob"])
        self.assertEqual(refused.exception.sqlstate, "23503")

        # A new column, and a new relation that may be NULL.
        self.change_models(
            ("    email = models.TextField()\n", "    email = models.TextField()\n    phone = models.TextField(null=True)\n"),
            (
                "    warehouse = models.ForeignKey(Warehouse, models.PROTECT, null=True)\n",
                "    warehouse = models.ForeignKey(Warehouse, models.PROTECT, null=True)\n"
                "    address = models.ForeignKey(Address, models.PROTECT, null=True)\n",
            ),
        )
        self.migrate("relation")
        self.assert_protected([*TABLES, "shop_coupon"])
        self.assertEqual(self.relations()["shop_shipment -> shop_address"], 2)

        # A relation that may not be NULL any more, and one that may.
        self.change_models(("customer = models.ForeignKey(Customer, models.PROTECT)\n",
                            "customer = models.ForeignKey(Customer, models.PROTECT, null=True)\n"))
        self.migrate("may_be_null")
        self.assert_protected([*TABLES, "shop_coupon"])

        # Rows of all organizations, and new names for a column and a table with what refers to it.
        self.write_migration("0005", "lower", "0004_may_be_null", "migrations.RunPython(lower_case, lambda *_: None)")
        self.manage("migrate")
        self.assertEqual(self.as_member("bob", "SELECT email FROM shop_customer"), [("lower",)])
        self.change_models(
            ("    note = ", "    remark = "),
            ("class Warehouse", "class Depot"),
            ("warehouse = models.ForeignKey(Warehouse", "depot = models.ForeignKey(Depot"),
        )
        self.write_migration(
            "0006",
            "names",
            "0005_lower",
            "migrations.RenameField('purchase', 'note', 'remark')",
            "migrations.RenameModel('Warehouse', 'Depot')",
            "migrations.RenameField('shipment', 'warehouse', 'depot')",
        )
        self.assertIn("No changes detected", self.manage("migrate", "makemigrations --check"))
        renamed = [table for table in TABLES if table != "shop_warehouse"] + ["shop_depot"]
        self.assert_protected([*renamed, "shop_coupon"])

        # What nobody needs any more.
        path.write_text(path.read_text().replace(coupon, ""))
        self.change_models(("    address = models.ForeignKey(Address, models.PROTECT, null=True)\n", ""))
        self.migrate("drop")
        self.owner.execute("SELECT tenancy.protect('shop_shipment')")
        self.assert_protected(renamed)
        self.assert_own_rows_only()

        # All the way back and forth again.
        self.admin.execute("UPDATE shop_purchase SET customer_id = (SELECT min(id) FROM shop_customer) WHERE customer_id IS NULL")
        self.manage("migrate shop 0001")
        self.owner.execute("SELECT tenancy.protect('shop_shipment')")
        self.assert_protected(TABLES)
        self.assertIn("No changes detected", self.manage("migrate", "makemigrations --check"))
        self.owner.execute("SELECT tenancy.protect('shop_shipment')")
        self.assert_protected(renamed)
        self.assert_own_rows_only()
        self.manage("migrate shop 0001")
        self.owner.execute("SELECT tenancy.protect('shop_shipment')")
        path.write_text(self.models_at_first)
        for migration in (self.folder / "shop" / "migrations").glob("000[2-9]*.py"):
            migration.unlink()

    def test_a_relation_that_is_no_constraint_any_more_needs_a_reason(self):
        first = next((self.folder / "shop" / "migrations").glob("0001*.py")).stem
        name = "SELECT conname FROM pg_constraint WHERE conrelid = 'shop_payment'::regclass AND contype = 'f'"
        [(key,)] = self.admin.execute(name).fetchall()
        plain = "models.ForeignKey('shop.Invoice', models.PROTECT, db_constraint=False)"
        drop = f"ALTER TABLE shop_payment DROP CONSTRAINT {key}"
        reason = "SET LOCAL tenancy.override_reason = 'payments come from elsewhere'"
        alter = f"migrations.AlterField('payment', 'invoice', {plain})"
        self.write_migration("0002", "plain", first, alter, f'migrations.RunSQL("{drop}", migrations.RunSQL.noop)')
        self.assertIn("less protected", self.manage("migrate", fails=True))
        sql_with_reason = f'migrations.RunSQL("{reason}; {drop}", migrations.RunSQL.noop)'
        self.write_migration("0002", "plain", first, alter, sql_with_reason)
        self.manage("migrate")
        self.assertNotIn("shop_payment -> shop_invoice", self.relations())
        self.manage("migrate shop 0001")
        (self.folder / "shop" / "migrations" / "0002_plain.py").unlink()
        self.assert_protected(TABLES)

    def test_inspectdb_shows_the_tables_as_they_were_before(self):
        shown = self.manage("inspectdb")
        self.assertNotIn("Unable to inspect", shown)
        self.assertNotIn("unique_together", shown)
        self.assertEqual(len(re.findall(r"organization_id = models.UUIDField", shown)), 10)
        self.assertEqual(len(re.findall(r" = models.ForeignKey\(", shown)), 12)
        self.assertIn("    corrects = models.ForeignKey('self', models.DO_NOTHING, blank=True, null=True)\n", shown)
        # Without the application, Django does not see the columns: the policies refuse the row that it asks for.
        settings_file = self.folder / "site_of_shop" / "settings.py"
        text = settings_file.read_text()
        self.addCleanup(settings_file.write_text, text)
        settings_file.write_text(text.replace('"pg_tenancy", ', ""))
        self.assertIn("Unable to inspect table 'shop_invoice'", self.manage("inspectdb"))

    def test_the_organization_column_neither_goes_nor_changes_its_name(self):
        first = next((self.folder / "shop" / "migrations").glob("0001*.py")).stem
        for name, operation in {
            "dropped": "migrations.RemoveField('payment', 'organization_id')",
            "nullable": "migrations.AlterField('payment', 'organization_id', models.UUIDField(null=True))",
            "renamed": "migrations.RenameField('payment', 'organization_id', 'org')",
        }.items():
            with self.subTest(name):
                self.write_migration("0002", name, first, operation)
                self.assertIn("less protected", self.manage("migrate", fails=True))
            (self.folder / "shop" / "migrations" / f"0002_{name}.py").unlink()
        self.assert_protected(TABLES)


class TestsOfTheShop(Django):
    prefix = "test_"  # what Django calls the database of the tests

    def test_they_run_as_the_owner_of_a_database_that_a_superuser_made(self):
        """The migrations of the shop with one that protects, and its tests."""
        self.manage("makemigrations shop")
        first = next((self.folder / "shop" / "migrations").glob("0001*.py")).stem
        (self.folder / "shop" / "migrations" / "0002_protect.py").write_text(
            f"""from django.db import migrations

class Migration(migrations.Migration):
    dependencies = [("shop", "{first}")]
    operations = [migrations.RunSQL("SELECT tenancy.protect_schema('public')")]
"""
        )
        self.admin.execute(sql.SQL("ALTER DATABASE {} SET tenancy.several_identities = on").format(
            sql.Identifier(self.database)))
        said = self.manage("test --keepdb shop")
        self.assertIn("Ran 4 tests", said)
        self.assert_protected(TABLES)
        self.admin.execute(sql.SQL("ALTER DATABASE {} RESET tenancy.several_identities").format(
            sql.Identifier(self.database)))
        said = self.manage("test --keepdb shop", fails=True)
        self.assertIn("FAILED", said)


class Requests(Django):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.manage("makemigrations shop", "migrate")
        cls.protect()
        at = address(cls.database)
        application = {
            "DJANGO_SETTINGS_MODULE": "site_of_shop.settings",
            **{f"PG{name.upper()}": str(at[name]) for name in ("host", "port", "user", "password")},
            "PGDATABASE": cls.database,
        }
        with mock.patch.dict(os.environ, application):
            django.setup()  # reads the settings, with the application's address
        from django.db import connection

        cls.connection = connection
        cls.addClassCleanup(connection.close)

    def setUp(self):
        from django.test import Client

        self.client = Client(raise_request_exception=False)  # it reads the settings at its first request
        self.admin.execute("TRUNCATE shop_customer CASCADE")
        self.admin.execute(
            """INSERT INTO shop_customer (organization_id, name, email) VALUES (%s, 'acme', ''), (%s, 'globex', '')""",
            (ACME, GLOBEX),
        )

    def rows(self):
        query = "SELECT organization_id::text, name FROM shop_customer ORDER BY name"
        return self.admin.execute(query).fetchall()

    def get(self, token, path="/customers"):
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        return self.client.get(path, headers=headers)

    def post(self, subject, name, path="/customers"):
        headers = {**self.issuer.headers(subject), "X-Request-ID": "django-1"}
        body = json.dumps({"name": name, "email": ""})
        return self.client.post(path, body, content_type="application/json", headers=headers)

    def use(self, **views):
        """Serves views, by their names, in place of those of the shop."""
        from django.urls import path

        urls = type(sys)("urls_of_a_test")
        urls.urlpatterns = [path(name, view) for name, view in views.items()]
        self.enterContext(override_settings(ROOT_URLCONF=urls))

    def test_each_request_has_the_identity_of_its_token(self):
        for n in range(6):
            subject, own = (("alice", ["acme"]), ("bob", ["globex"]))[n % 2]
            answer = self.get(self.issuer.token(subject))
            self.assertEqual((answer.status_code, answer.json()), (200, own))
        created = self.post("alice", "new")
        self.assertEqual((created.status_code, created.json()["organization"]), (201, ACME))
        self.assertEqual(self.get(self.issuer.token("bob")).json(), ["globex"])
        event = "SELECT subject FROM tenancy.audit_trail WHERE correlation_id = 'django-1' AND table_name = 'shop_customer'"
        self.assertEqual(self.admin.execute(event).fetchall(), [("alice",)])

    def test_a_request_that_is_refused_is_401_or_403_and_writes_nothing(self):
        for token in (None, "", "no token", self.issuer.token("mallory"), self.issuer.token("alice", expires_in=-120)):
            answer = self.get(token)
            self.assertEqual((answer.status_code, answer.json()), (401, {"detail": "Unauthorized"}), token)
            self.assertEqual(answer.headers["WWW-Authenticate"], "Bearer")
        self.assertEqual(self.get(self.issuer.token("victor")).json(), ["acme"])
        answer = self.post("victor", "never")
        self.assertEqual((answer.status_code, answer.json()), (403, {"detail": "Forbidden"}))
        self.assertEqual(self.rows(), [(ACME, "acme"), (GLOBEX, "globex")])
        self.assertEqual(self.get(self.issuer.token("alice")).status_code, 200, "and the next one is good")

    def test_an_error_of_the_view_rolls_its_transaction_back(self):
        from django.http import HttpResponse

        from shop.models import Customer

        def failing(request):
            Customer.objects.create(name="never", email="")
            raise ValueError("after the insert")

        def smuggling(request):
            Customer.objects.create(name="never", email="")
            Customer.objects.create(name="smuggled", email="", organization_id=GLOBEX)
            return HttpResponse()

        self.use(failing=failing, smuggling=smuggling)
        self.assertEqual(self.get(self.issuer.token("alice"), "/failing").status_code, 500)
        self.assertEqual(self.get(self.issuer.token("alice"), "/smuggling").status_code, 403)
        self.assertEqual(self.rows(), [(ACME, "acme"), (GLOBEX, "globex")])

    def test_savepoints_of_a_view_keep_its_identity(self):
        from django.db import DatabaseError, transaction
        from django.http import JsonResponse

        from shop.models import Customer

        def view(request):
            for name in ("rolled back", "kept"):
                try:
                    with transaction.atomic():
                        Customer.objects.create(name=name, email="")
                        if name == "rolled back":
                            Customer.objects.raw("SELECT 1 / 0 AS id")[0]
                except DatabaseError:
                    pass
            return JsonResponse(list(Customer.objects.order_by("name").values_list("name", flat=True)), safe=False)

        self.use(view=view)
        self.assertEqual(self.get(self.issuer.token("alice"), "/view").json(), ["acme", "kept"])

    def test_without_atomic_requests_each_transaction_of_a_view_authenticates(self):
        from django.db import transaction
        from django.http import JsonResponse

        from shop.models import Customer

        @transaction.non_atomic_requests
        def several(request):
            names = []
            for n in range(3):
                with transaction.atomic():
                    Customer.objects.create(name=f"made {n}", email="")
                with transaction.atomic():
                    names.append(Customer.objects.count())
            return JsonResponse(names, safe=False)

        @transaction.non_atomic_requests
        def outside(request):
            with transaction.atomic():
                Customer.objects.count()
            return JsonResponse(Customer.objects.count(), safe=False)

        @transaction.non_atomic_requests
        def unprotected(request):
            from django.db.migrations.recorder import MigrationRecorder

            return JsonResponse(MigrationRecorder(self.connection).migration_qs.count(), safe=False)

        self.admin.execute(f"GRANT SELECT ON django_migrations TO {address(self.database)['user']}")
        self.use(several=several, outside=outside, unprotected=unprotected)
        self.assertEqual(self.get(self.issuer.token("alice"), "/several").json(), [2, 3, 4])
        # A query outside of a transaction has no identity, as the database sees it.
        self.assertEqual(self.get(self.issuer.token("alice"), "/outside").status_code, 401)
        # Nor does it need a good token where the table is not protected, such as one of sessions.
        self.assertEqual(self.get("no token", "/unprotected").json(), 1)

    def test_a_template_that_is_rendered_after_the_view_reads_with_its_identity(self):
        from django.template import engines
        from django.template.response import TemplateResponse

        from shop.models import Customer

        class Late(TemplateResponse):
            def resolve_template(self, template):
                return engines["django"].from_string("{% for one in customers %}{{ one.name }} {% endfor %}")

        self.use(view=lambda request: Late(request, "late.html", {"customers": Customer.objects.all()}))
        self.assertEqual(self.get(self.issuer.token("bob"), "/view").content, b"globex ")
        self.assertEqual(self.get(None, "/view").status_code, 401)

    def test_an_asynchronous_view_queries_in_a_synchronous_function(self):
        from asgiref.sync import sync_to_async
        from django.db import transaction
        from django.http import JsonResponse
        from django.test import AsyncClient

        from shop.models import Customer

        @transaction.non_atomic_requests
        async def view(request):
            @sync_to_async
            def names():
                with transaction.atomic():
                    return list(Customer.objects.values_list("name", flat=True))

            return JsonResponse(await names(), safe=False)

        self.use(view=view)

        async def both():
            client = AsyncClient()
            return [
                (await client.get("/view", headers=self.issuer.headers(subject))).json() for subject in ("alice", "bob")
            ]

        self.assertEqual(asyncio.run(both()), [["acme"], ["globex"]])

    def test_a_wrapped_view_needs_no_middleware(self):
        from django.core.exceptions import ImproperlyConfigured
        from django.db import transaction
        from django.http import JsonResponse
        from django.utils.decorators import method_decorator
        from django.views import View
        from pg_tenancy.django import with_identity

        from shop.models import Customer
        from shop.views import customers

        @method_decorator(with_identity, name="dispatch")
        class Customers(View):
            def get(self, request):
                return JsonResponse(Customer.objects.count(), safe=False)

        @with_identity
        def smuggling(request):
            Customer.objects.create(name="never", email="")
            with transaction.atomic():
                Customer.objects.create(name="smuggled", email="", organization_id=GLOBEX)

        async def asynchronous(request):
            return JsonResponse({})

        self.use(customers=with_identity(customers), bare=customers, of_class=Customers.as_view(), smuggling=smuggling)
        with override_settings(MIDDLEWARE=[]):
            self.assertEqual(self.get(self.issuer.token("alice")).json(), ["acme"])
            self.assertEqual(self.get(self.issuer.token("bob")).json(), ["globex"])
            self.assertEqual(self.get(self.issuer.token("bob"), "/of_class").json(), 1)
            self.assertEqual(self.get("no token").status_code, 401)
            self.assertEqual(self.get(None).status_code, 401)
            self.assertEqual(self.post("victor", "never").status_code, 403)
            self.assertEqual(self.get(self.issuer.token("alice"), "/smuggling").status_code, 403)
            self.assertEqual(self.get(self.issuer.token("alice"), "/bare").status_code, 500)
        self.assertEqual(self.rows(), [(ACME, "acme"), (GLOBEX, "globex")])
        with self.assertRaises(ImproperlyConfigured):
            with_identity(asynchronous)

    def test_a_member_of_several_organizations_chooses_one(self):
        from pg_tenancy.django import IdentityMiddleware, identity

        from shop.models import Customer

        class ByHeader(IdentityMiddleware):
            def organization(self, request):
                return request.headers.get("X-Organization")

        middleware = type(sys)("middleware_of_a_test")
        middleware.ByHeader = ByHeader
        self.enterContext(mock.patch.dict(sys.modules, {"middleware_of_a_test": middleware}))
        self.enterContext(override_settings(MIDDLEWARE=["middleware_of_a_test.ByHeader"]))
        for organization, name in ((ACME, "acme"), (GLOBEX, "globex")):
            self.issuer.add_member(self.admin, organization, "erin", "viewer")
            headers = {**self.issuer.headers("erin"), "X-Organization": organization}
            self.assertEqual(self.client.get("/customers", headers=headers).json(), [name])
            with identity(self.issuer.token("erin"), organization=organization):
                self.assertEqual(Customer.objects.get().name, name)
        self.assertEqual(self.get(self.issuer.token("erin")).status_code, 401)

    def test_jobs_have_an_identity_or_assume_an_organization(self):
        from django.db import DatabaseError
        from pg_tenancy.django import assumed_organization, identity

        from shop.models import Customer

        with identity(self.issuer.token("alice"), "job-1"):
            self.assertEqual(Customer.objects.get().name, "acme")
        with self.assertRaises(DatabaseError) as refused:
            Customer.objects.count()
        self.assertEqual(sqlstate_of(refused.exception), "28000")
        with self.assertRaises(DatabaseError) as refused, assumed_organization(ACME, "no worker"):
            Customer.objects.count()
        self.assertEqual(sqlstate_of(refused.exception), "42501")
        self.admin.execute(f"GRANT tenancy_operator TO {address(self.database)['user']}")
        try:
            for organization, name in ((ACME, "acme"), (GLOBEX, "globex")):
                with assumed_organization(organization, "nightly", role="viewer", correlation_id="job-2"):
                    self.assertEqual(Customer.objects.get().name, name)
        finally:
            self.admin.execute(f"REVOKE tenancy_operator FROM {address(self.database)['user']}")

    def test_the_log_of_queries_does_not_have_the_token(self):
        from django.db import reset_queries
        from pg_tenancy.django import identity

        from shop.models import Customer

        self.addCleanup(setattr, self.connection, "force_debug_cursor", False)
        self.connection.force_debug_cursor = True
        reset_queries()
        token = self.issuer.token("alice")
        with identity(token), self.assertLogs("django.db.backends", "DEBUG") as logged:
            Customer.objects.count()
            said = "".join(query["sql"] for query in self.connection.queries) + "".join(logged.output)
        self.assertIn("shop_customer", said)
        for part in token.split("."):
            self.assertNotIn(part, said)

    def test_the_token_is_a_parameter_and_no_part_of_a_statement(self):
        from pg_tenancy.django import identity

        from shop.models import Customer

        self.connection.ensure_connection()
        with tempfile.TemporaryFile("w+") as heard, mock.patch.object(self.connection, "close"):
            libpq = self.connection.connection.pgconn
            libpq.trace(heard.fileno())
            with identity(self.issuer.token("alice")):
                Customer.objects.count()
            libpq.untrace()
            heard.seek(0)
            said = heard.read()
        self.assertRegex(said, r"Parse.*tenancy\.authenticate\(\$1")
