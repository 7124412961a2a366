import type { Kysely, Transaction } from 'kysely';
import type { Identity, Job } from './identity.js';

export type { Identity, Job };

/** Runs the work in one transaction as the member that the token names. */
export function withIdentity<DB, T>(
  db: Kysely<DB>,
  identity: Identity,
  work: (transaction: Transaction<DB>) => Promise<T>,
): Promise<T>;

/** Runs the work of a job in one transaction for an organization, without a token. */
export function withOrganization<DB, T>(
  db: Kysely<DB>,
  job: Job,
  work: (transaction: Transaction<DB>) => Promise<T>,
): Promise<T>;
