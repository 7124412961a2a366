// What the adapters send as the first statement of a transaction. Values are bind parameters, never text.

const call = (name, types) => `SELECT tenancy.${name}(${types.map((type, n) => `$${n + 1}::${type}`).join(', ')})`;

const AUTHENTICATE = call('authenticate', ['text', 'uuid', 'text']);
const ASSUME = call('assume_organization', ['uuid', 'text', 'text', 'text']);

/** The statement that signs the transaction in as the member that a token names. */
export function authenticate(identity) {
  const { token, organization, correlationId } = typeof identity === 'object' && identity ? identity : { token: identity };
  // A missing token is an empty one, which the database refuses with 28000.
  return { text: AUTHENTICATE, values: [token ?? '', organization ?? null, correlationId ?? null] };
}

/** The statement that lets a worker act for an organization without a token. */
export function assume({ organization, reason, role, correlationId }) {
  return { text: ASSUME, values: [organization, reason, role ?? null, correlationId ?? null] };
}

/** The statement that gives a reason to the guardrails, until the end of the transaction or the next reason. */
export function override(reason) {
  return { text: "SELECT pg_catalog.set_config('tenancy.override_reason', $1::text, true)", values: [reason] };
}

/** Makes the two functions of an adapter out of `within(db, statement, work)`, which opens the transaction. */
export function adapter(within) {
  return {
    withIdentity: (db, identity, work) => within(db, authenticate(identity), work),
    withOrganization: (db, job, work) => within(db, assume(job), work),
  };
}
