import type { Identity, Job } from './identity.js';

export type { Identity, Job };

/** A generated client with a driver adapter. */
export interface PrismaClient {
  $transaction(work: (transaction: any) => Promise<any>, ...options: any[]): Promise<any>;
  $extends: any;
}

/** The client without what an interactive transaction does not have. */
export type PrismaTransaction<Client> = Omit<
  Client, '$connect' | '$disconnect' | '$on' | '$transaction' | '$use' | '$extends'
>;

/** Runs the work in one interactive transaction as the member that the token names. */
export function withIdentity<Client extends PrismaClient, T>(
  prisma: Client,
  identity: Identity,
  work: (transaction: PrismaTransaction<Client>) => Promise<T>,
): Promise<T>;

/** Runs the work of a job in one interactive transaction for an organization, without a token. */
export function withOrganization<Client extends PrismaClient, T>(
  prisma: Client,
  job: Job,
  work: (transaction: PrismaTransaction<Client>) => Promise<T>,
): Promise<T>;

/**
 * A client extension: `prisma.$extends(identity(token))` runs each query in a transaction of its own as the member that
 * the token names. Queries that belong together need `withIdentity`.
 */
export function identity(identity: Identity): <Client extends PrismaClient>(prisma: Client) => Client;
