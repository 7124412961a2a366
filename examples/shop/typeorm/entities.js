// The shop, as TypeORM's documentation has a developer write it. `organization_id` is an ordinary column.

import { EntitySchema } from 'typeorm';

const id = { type: 'bigint', primary: true, generated: 'increment' };
const organizationId = { name: 'organization_id', type: 'uuid' };
const to = (target, name, options) => ({ type: 'many-to-one', target, joinColumn: { name }, nullable: false, ...options });

export const Category = new EntitySchema({
  name: 'category',
  columns: { id, organizationId, name: { type: 'text' } },
  relations: { parent: to('category', 'parent_id', { nullable: true }) },
});

export const Product = new EntitySchema({
  name: 'product',
  columns: { id, organizationId, sku: { type: 'text' }, name: { type: 'text' }, price: { type: 'numeric' } },
  relations: { category: to('category', 'category_id', { nullable: true }) },
});

export const Customer = new EntitySchema({
  name: 'customer',
  columns: { id, organizationId, name: { type: 'text' }, email: { type: 'text' } },
  relations: { referredBy: to('customer', 'referred_by', { nullable: true }) },
});

export const Address = new EntitySchema({
  name: 'address',
  columns: { id, organizationId, city: { type: 'text' } },
  relations: { customer: to('customer', 'customer_id', { onDelete: 'CASCADE' }) },
});

export const Warehouse = new EntitySchema({
  name: 'warehouse',
  columns: { id, organizationId, name: { type: 'text' } },
});

export const Purchase = new EntitySchema({
  name: 'purchase',
  columns: {
    id,
    organizationId,
    placedAt: { name: 'placed_at', type: 'timestamptz' },
    note: { type: 'text', nullable: true },
  },
  relations: { customer: to('customer', 'customer_id') },
});

export const PurchaseLine = new EntitySchema({
  name: 'purchase_line',
  columns: { id, organizationId, quantity: { type: 'integer' } },
  relations: { purchase: to('purchase', 'purchase_id', { onDelete: 'CASCADE' }), product: to('product', 'product_id') },
});

export const Shipment = new EntitySchema({
  name: 'shipment',
  columns: { id, organizationId },
  relations: { purchase: to('purchase', 'purchase_id'), warehouse: to('warehouse', 'warehouse_id', { nullable: true }) },
});

export const Invoice = new EntitySchema({
  name: 'invoice',
  columns: { id, organizationId, total: { type: 'numeric' } },
  relations: {
    purchase: to('purchase', 'purchase_id', { nullable: true }),
    corrects: to('invoice', 'corrects', { nullable: true }),
  },
});

export const Payment = new EntitySchema({
  name: 'payment',
  columns: { id, organizationId, amount: { type: 'numeric' } },
  relations: { invoice: to('invoice', 'invoice_id') },
});
