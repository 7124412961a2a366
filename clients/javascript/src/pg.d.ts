import type { ClientBase, Pool, PoolClient } from 'pg';
import type { Identity, Job } from './identity.js';

export type { Identity, Job };

/** Runs the work in one transaction as the member that the token names. */
export function withIdentity<T>(
  pool: Pool,
  identity: Identity,
  work: (client: PoolClient) => T | PromiseLike<T>,
): Promise<T>;

/** Runs the work of a job in one transaction for an organization, without a token. */
export function withOrganization<T>(
  pool: Pool,
  job: Job,
  work: (client: PoolClient) => T | PromiseLike<T>,
): Promise<T>;

/**
 * Inserts rows in the format of COPY, inside of a transaction with an identity, and returns their number. Needs the
 * package `pg-copy-streams`. Postgres refuses COPY FROM under row-level security (0A000), so the rows go through a
 * temporary table: the login role needs the privilege TEMPORARY on the database.
 *
 * @param table the table, with its schema in front if it has one: `public.invoice`
 * @param columns the columns that the rows have, in their order
 * @param source the rows as COPY reads them: lines, with columns separated by tabs
 */
export function copyRows(
  client: PoolClient,
  table: string,
  columns: string[],
  source: NodeJS.ReadableStream | Iterable<string> | AsyncIterable<string>,
): Promise<number>;

/**
 * Lets the migrations that run on a connection drop foreign keys between protected tables, which the guardrail
 * `protected_tables` refuses without a reason. The reason counts for a statement that drops such a key and does nothing
 * else, and the audit records it. Afterwards, `tenancy.protect` updates what it knows of the table.
 *
 * The statement must run in a transaction. The connection must belong to the migrations alone.
 */
export function giveReason<Client extends ClientBase>(client: Client, reason: string): Client;
