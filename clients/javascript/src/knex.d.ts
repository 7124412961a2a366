import type { Knex } from 'knex';
import type { Identity, Job } from './identity.js';

export type { Identity, Job };

/** Runs the work in one transaction as the member that the token names. */
export function withIdentity<T>(
  knex: Knex,
  identity: Identity,
  work: (transaction: Knex.Transaction) => T | PromiseLike<T>,
): Promise<T>;

/** Runs the work of a job in one transaction for an organization, without a token. */
export function withOrganization<T>(
  knex: Knex,
  job: Job,
  work: (transaction: Knex.Transaction) => T | PromiseLike<T>,
): Promise<T>;
