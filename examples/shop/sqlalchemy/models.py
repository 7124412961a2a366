"""The shop in SQLAlchemy: ten tables, each with the organization that its rows belong to, and plain foreign keys."""

from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import BigInteger, DateTime, FetchedValue, ForeignKey, MetaData, Numeric
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map = {int: BigInteger, datetime: DateTime(timezone=True), Decimal: Numeric}


class OfOrganization:
    """What each table has. The database fills the organization in, and the session reads it back when it is asked."""

    id: Mapped[int] = mapped_column(primary_key=True)
    organization_id: Mapped[UUID] = mapped_column(server_default=FetchedValue())


class Category(OfOrganization, Base):
    __tablename__ = "category"

    parent_id: Mapped[int | None] = mapped_column(ForeignKey("category.id"))
    name: Mapped[str]

    parent: Mapped["Category | None"] = relationship(remote_side="Category.id")
    products: Mapped[list["Product"]] = relationship(back_populates="category")


class Product(OfOrganization, Base):
    __tablename__ = "product"

    category_id: Mapped[int | None] = mapped_column(ForeignKey("category.id"), index=True)
    sku: Mapped[str]
    name: Mapped[str]
    price: Mapped[Decimal]

    category: Mapped[Category | None] = relationship(back_populates="products")


class Customer(OfOrganization, Base):
    __tablename__ = "customer"

    name: Mapped[str]
    email: Mapped[str]
    referred_by: Mapped[int | None] = mapped_column(ForeignKey("customer.id"))

    addresses: Mapped[list["Address"]] = relationship(cascade="all, delete-orphan", passive_deletes=True)
    purchases: Mapped[list["Purchase"]] = relationship(back_populates="customer")


class Address(OfOrganization, Base):
    __tablename__ = "address"

    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id", ondelete="CASCADE"))
    city: Mapped[str]


class Warehouse(OfOrganization, Base):
    __tablename__ = "warehouse"

    name: Mapped[str]


class Purchase(OfOrganization, Base):
    __tablename__ = "purchase"

    customer_id: Mapped[int] = mapped_column(ForeignKey("customer.id"))
    placed_at: Mapped[datetime]
    note: Mapped[str | None]

    customer: Mapped[Customer] = relationship(back_populates="purchases")
    lines: Mapped[list["PurchaseLine"]] = relationship(cascade="all, delete-orphan", passive_deletes=True)


class PurchaseLine(OfOrganization, Base):
    __tablename__ = "purchase_line"

    purchase_id: Mapped[int] = mapped_column(ForeignKey("purchase.id", ondelete="CASCADE"))
    product_id: Mapped[int] = mapped_column(ForeignKey("product.id"))
    quantity: Mapped[int]

    product: Mapped[Product] = relationship()


class Shipment(OfOrganization, Base):
    __tablename__ = "shipment"

    purchase_id: Mapped[int] = mapped_column(ForeignKey("purchase.id"))
    warehouse_id: Mapped[int | None] = mapped_column(ForeignKey("warehouse.id"))


class Invoice(OfOrganization, Base):
    __tablename__ = "invoice"

    purchase_id: Mapped[int | None] = mapped_column(ForeignKey("purchase.id"))
    corrects: Mapped[int | None] = mapped_column(ForeignKey("invoice.id"))
    total: Mapped[Decimal]


class Payment(OfOrganization, Base):
    __tablename__ = "payment"

    invoice_id: Mapped[int] = mapped_column(ForeignKey("invoice.id"))
    amount: Mapped[Decimal]
