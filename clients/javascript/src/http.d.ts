/** Opens the transaction: `(identity, work) => withIdentity(pool, identity, work)`. */
export type Open = (
  identity: { token: string; organization?: string; correlationId?: string },
  work: (transaction: any) => any,
) => Promise<any>;

/** Where the parts of the identity come from. */
export interface RequestOptions<Request> {
  /** By default the bearer token of the header `authorization`. */
  token?: (request: Request) => string | Promise<string>;
  /** By default none: the token or the only membership decides. */
  organization?: (request: Request) => string | undefined | Promise<string | undefined>;
  /** By default the header `x-request-id`. */
  correlationId?: (request: Request) => string | undefined | Promise<string | undefined>;
}

/** Runs the work in one transaction as the person of the request; rejects with HttpError for 28000 and 42501. */
export type WithIdentity = <Transaction = any, T = unknown>(
  work: (transaction: Transaction) => Promise<T>,
) => Promise<T>;
