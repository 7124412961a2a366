import type { DataSource, EntityManager } from 'typeorm';
import type { Identity, Job } from './identity.js';

export type { Identity, Job };

/** Runs the work in one transaction as the member that the token names. */
export function withIdentity<T>(
  source: DataSource,
  identity: Identity,
  work: (manager: EntityManager) => T | PromiseLike<T>,
): Promise<T>;

/** Runs the work of a job in one transaction for an organization, without a token. */
export function withOrganization<T>(
  source: DataSource,
  job: Job,
  work: (manager: EntityManager) => T | PromiseLike<T>,
): Promise<T>;
