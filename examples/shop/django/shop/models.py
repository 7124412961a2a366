"""The shop in Django: ten tables, each with the organization that its rows belong to, and plain foreign keys."""

from django.db import models
from pg_tenancy.django import OrganizationField


class OfOrganization(models.Model):
    organization_id = OrganizationField()

    class Meta:
        abstract = True


class Category(OfOrganization):
    parent = models.ForeignKey("self", models.PROTECT, null=True)
    name = models.TextField()


class Product(OfOrganization):
    category = models.ForeignKey(Category, models.PROTECT, null=True)
    sku = models.TextField()
    name = models.TextField()
    price = models.DecimalField(max_digits=12, decimal_places=2)


class Customer(OfOrganization):
    name = models.TextField()
    email = models.TextField()
    referred_by = models.ForeignKey("self", models.PROTECT, null=True)


class Address(OfOrganization):
    customer = models.ForeignKey(Customer, models.CASCADE)
    city = models.TextField()


class Warehouse(OfOrganization):
    name = models.TextField()


class Purchase(OfOrganization):
    customer = models.ForeignKey(Customer, models.PROTECT)
    placed_at = models.DateTimeField(auto_now_add=True)
    note = models.TextField(null=True)


class PurchaseLine(OfOrganization):
    purchase = models.ForeignKey(Purchase, models.CASCADE, related_name="lines")
    product = models.ForeignKey(Product, models.PROTECT)
    quantity = models.IntegerField()


class Shipment(OfOrganization):
    purchase = models.ForeignKey(Purchase, models.PROTECT)
    warehouse = models.ForeignKey(Warehouse, models.PROTECT, null=True)


class Invoice(OfOrganization):
    purchase = models.ForeignKey(Purchase, models.PROTECT, null=True)
    corrects = models.ForeignKey("self", models.PROTECT, null=True)
    total = models.DecimalField(max_digits=12, decimal_places=2)


class Payment(OfOrganization):
    invoice = models.ForeignKey(Invoice, models.PROTECT)
    amount = models.DecimalField(max_digits=12, decimal_places=2)
