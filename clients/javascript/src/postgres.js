import { adapter } from './statement.js';

export const { withIdentity, withOrganization } = adapter((sql, { text, values }, work) => sql.begin(async (transaction) => {
  await transaction.unsafe(text, values);
  return work(transaction);
}));
