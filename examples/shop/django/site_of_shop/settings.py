"""The least that a project needs. PGHOST, PGPORT, PGUSER, PGPASSWORD and PGDATABASE name the database."""

import os

SECRET_KEY = "for the example alone"
ALLOWED_HOSTS = ["testserver"]
ROOT_URLCONF = "shop.urls"
INSTALLED_APPS = ["pg_tenancy", "shop"]
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

MIDDLEWARE = ["pg_tenancy.django.IdentityMiddleware"]

DATABASES = {
    "default": {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": os.environ["PGDATABASE"],
        "USER": os.environ["PGUSER"],
        "PASSWORD": os.environ.get("PGPASSWORD", ""),
        "HOST": os.environ["PGHOST"],
        "PORT": os.environ["PGPORT"],
        "ATOMIC_REQUESTS": True,
        # A pooler in transaction mode gives each transaction another connection.
        "DISABLE_SERVER_SIDE_CURSORS": True,
    }
}

TEMPLATES = [{"BACKEND": "django.template.backends.django.DjangoTemplates", "DIRS": [], "APP_DIRS": True}]
