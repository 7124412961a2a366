// One transaction as the member that the token names.
export async function withIdentity(pool, token, correlationId, work) {
  const client = await pool.connect();
  let broken;
  try {
    await client.query('BEGIN');
    await client.query('SELECT tenancy.authenticate($1, correlation_id => $2)', [token, correlationId]);
    const result = await work(client);
    const { command } = await client.query('COMMIT');
    if (command !== 'COMMIT') throw new Error('a statement of the transaction failed, and nothing was committed');
    return result;
  } catch (error) {
    await client.query('ROLLBACK').catch((reason) => { broken = reason; });
    throw error;
  } finally {
    client.release(broken); // a connection that cannot roll back is not used again
  }
}

// What an API answers: the SQLSTATE says who is to blame.
export function statusOf(error) {
  if (error.code === '28000') return 401; // no, bad or expired token; no membership
  if (error.code === '42501') return 403; // the role may not
  return 500;
}
