import type { Identity, Job } from './identity.js';

export type { Identity, Job };

/** Any database of drizzle-orm for Postgres: node-postgres, postgres.js and others. */
export interface DrizzleDatabase {
  transaction(work: (transaction: any) => Promise<any>, ...config: any[]): Promise<any>;
}

/** The transaction that such a database gives. */
export type DrizzleTransaction<DB extends DrizzleDatabase> = Parameters<Parameters<DB['transaction']>[0]>[0];

/** Runs the work in one transaction as the member that the token names. */
export function withIdentity<DB extends DrizzleDatabase, T>(
  db: DB,
  identity: Identity,
  work: (transaction: DrizzleTransaction<DB>) => Promise<T>,
): Promise<T>;

/** Runs the work of a job in one transaction for an organization, without a token. */
export function withOrganization<DB extends DrizzleDatabase, T>(
  db: DB,
  job: Job,
  work: (transaction: DrizzleTransaction<DB>) => Promise<T>,
): Promise<T>;
