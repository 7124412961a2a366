/** Who acts: a token alone, or a token with more. */
export type Identity = string | null | undefined | {
  /** A compact JWS, as the identity provider issued it. A missing one is refused with 28000. */
  token: string | null | undefined;
  /** Needed only if the token names no organization and the subject has several memberships. */
  organization?: string | null;
  /** At most 200 bytes. Each audit event of the transaction has it. */
  correlationId?: string | null;
};

/** What a worker without a token does, and for whom. Its login role needs `tenancy_operator`. */
export interface Job {
  /** Id of the organization. */
  organization: string;
  /** Why. Each audit event of the transaction carries it. */
  reason: string;
  /** The work may do what this role may; without it, everything. */
  role?: string | null;
  /** At most 200 bytes. Each audit event of the transaction has it. */
  correlationId?: string | null;
}
