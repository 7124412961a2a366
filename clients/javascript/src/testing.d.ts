/** A connection or pool of `pg`, or anything with the same `query`. */
export interface Queryable {
  query(text: string, values: unknown[]): Promise<unknown>;
}

export interface TestIssuerOptions {
  /** The "iss" of the tokens; by default one that no other issuer has. */
  issuer?: string;
  /** The "aud" of the tokens; by default `tests`. */
  audience?: string;
}

/** An identity provider for tests. Its key is made anew for each one and never leaves the process. */
export class TestIssuer {
  constructor(options?: TestIssuerOptions);
  readonly issuer: string;
  readonly audience: string;
  /** The public key, as an identity provider publishes it. */
  readonly jwks: { keys: Record<string, unknown>[] };

  /** Registers the issuer. The connection's role needs `tenancy_admin`. */
  register(client: Queryable): Promise<this>;

  /**
   * Creates an organization and returns its id.
   *
   * @param members the role of each subject: `{ alice: 'admin' }`
   * @param id by default a random one
   */
  createOrganization(client: Queryable, name: string, members?: Record<string, string>, id?: string): Promise<string>;

  /** A signed token of the subject; `expiresIn` is in seconds (300 by default), everything else becomes a claim. */
  token(subject: string, claims?: { expiresIn?: number; [claim: string]: unknown }): string;
}

/** Makes an issuer and registers it. */
export function createTestIssuer(client: Queryable, options?: TestIssuerOptions): Promise<TestIssuer>;
