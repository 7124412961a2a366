import { isDrop, withReason } from './provenance.js';
import { adapter } from './statement.js';

export const { withIdentity, withOrganization } = adapter(async (pool, statement, work) => {
  const client = await pool.connect();
  let broken;
  try {
    await client.query('BEGIN');
    await client.query(statement);
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
});

const quoted = (name) => `"${name.replaceAll('"', '""')}"`;
const COPIED = 'pg_tenancy_copied';

export async function copyRows(client, table, columns, source) {
  const { from } = await import('pg-copy-streams');
  const { pipeline } = await import('node:stream/promises');
  const target = table.split('.').map(quoted).join('.');
  const names = columns.map(quoted).join(', ');
  // Postgres refuses COPY FROM under row-level security (0A000). The rows go through a table of this transaction.
  await client.query(`CREATE TEMPORARY TABLE ${COPIED} ON COMMIT DROP AS SELECT ${names} FROM ${target} WITH NO DATA`);
  await pipeline(source, client.query(from(`COPY pg_temp.${COPIED} (${names}) FROM STDIN`)));
  const { rowCount } = await client.query(
    `INSERT INTO ${target} (${names}) SELECT ${names} FROM pg_temp.${COPIED}`);
  await client.query(`DROP TABLE pg_temp.${COPIED}`);
  return rowCount;
}

export function giveReason(client, reason) {
  const { query } = client;
  const run = async (statement) => (await query.call(client, statement)).rows;
  client.query = (...args) => {
    const text = typeof args[0] === 'string' ? args[0] : args[0]?.text;
    if (!isDrop(text) || typeof args[0]?.submit === 'function') return query.apply(client, args);
    const callback = typeof args.at(-1) === 'function' ? args.pop() : args[0].callback;
    const { callback: _, ...config } = typeof args[0] === 'string' ? { text } : args[0];
    const done = withReason(run, text, reason, () => query.call(client, config, ...args.slice(1)));
    if (!callback) return done;
    done.then((result) => callback(null, result), (error) => callback(error));
    return undefined;
  };
  return client;
}
