import { CompiledQuery } from 'kysely';
import { adapter } from './statement.js';

export const { withIdentity, withOrganization } = adapter((db, { text, values }, work) => {
  return db.transaction().execute(async (transaction) => {
    await transaction.executeQuery(CompiledQuery.raw(text, values));
    return work(transaction);
  });
});
