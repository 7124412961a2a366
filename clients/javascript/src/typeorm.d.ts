import type { DataSource, EntityManager } from 'typeorm';
import type { Identity, Job } from './identity.js';

export type { Identity, Job };

/** Runs the work in one transaction as the member that the token names. */
export function withIdentity<T>(
  source: DataSource | EntityManager,
  identity: Identity,
  work: (manager: EntityManager) => T | PromiseLike<T>,
): Promise<T>;

/** Runs the work of a job in one transaction for an organization, without a token. */
export function withOrganization<T>(
  source: DataSource | EntityManager,
  job: Job,
  work: (manager: EntityManager) => T | PromiseLike<T>,
): Promise<T>;

/**
 * Keeps `tenancy.protect` out of what TypeORM compares: `synchronize`, `schema:log`, `schema:sync` and
 * `migration:generate` see each table as the models have it. Call it for the data source of migrations, before
 * `initialize`, and return the same data source to the command line.
 *
 * With `reason`, migrations may also drop foreign keys between protected tables, which the guardrail `protected_tables`
 * refuses without a reason. The reason counts for a statement that drops such a key and does nothing else, and the audit
 * records it.
 */
export function quiet<Source extends DataSource>(source: Source, options?: { reason?: string }): Source;
