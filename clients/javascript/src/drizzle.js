import { sql } from 'drizzle-orm';
import { adapter } from './statement.js';

const query = ({ text, values }) => {
  const parts = text.split(/\$\d+/);
  return sql.join(parts.flatMap((part, n) => (n < values.length ? [sql.raw(part), sql.param(values[n])] : [sql.raw(part)])));
};

export const { withIdentity, withOrganization } = adapter((db, statement, work) => {
  return db.transaction(async (transaction) => {
    await transaction.execute(query(statement));
    return work(transaction);
  });
});
