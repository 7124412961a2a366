import type { DataType, ModelAttributeColumnOptions, Sequelize, Transaction } from 'sequelize';
import type { Identity, Job } from './identity.js';

export type { Identity, Job };

/** Runs the work in one transaction as the member that the token names. */
export function withIdentity<T>(
  sequelize: Sequelize,
  identity: Identity,
  work: (transaction: Transaction) => T | PromiseLike<T>,
): Promise<T>;

/** Runs the work of a job in one transaction for an organization, without a token. */
export function withOrganization<T>(
  sequelize: Sequelize,
  job: Job,
  work: (transaction: Transaction) => T | PromiseLike<T>,
): Promise<T>;

/**
 * The organization column of a model: NOT NULL, and the database fills in the organization of the transaction. Without
 * a default, Sequelize asks for a value before it sends anything.
 */
export function organizationColumn(options?: {
  /** Name of the column; by default `organization_id`. */
  field?: string;
  /** By default UUID. */
  type?: DataType;
}): ModelAttributeColumnOptions;

/**
 * Keeps `tenancy.protect` out of what `sync({ alter: true })` does: it leaves the organization column alone, and the
 * foreign keys that the models still have. Call it for the instance of migrations, before the first query.
 *
 * With `reason`, a transaction may also drop foreign keys between protected tables, which the guardrail
 * `protected_tables` refuses without a reason: see `giveReason` of `pg-tenancy/pg`.
 */
export function quiet<Instance extends Sequelize>(sequelize: Instance, options?: { reason?: string }): Instance;
