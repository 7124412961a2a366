import type { Sql, TransactionSql } from 'postgres';
import type { Identity, Job } from './identity.js';

export type { Identity, Job };

/** Runs the work in one transaction as the member that the token names. */
export function withIdentity<T>(
  sql: Sql,
  identity: Identity,
  work: (sql: TransactionSql) => T | PromiseLike<T>,
): Promise<T>;

/** Runs the work of a job in one transaction for an organization, without a token. */
export function withOrganization<T>(
  sql: Sql,
  job: Job,
  work: (sql: TransactionSql) => T | PromiseLike<T>,
): Promise<T>;
