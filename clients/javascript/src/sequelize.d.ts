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
