import { adapter } from './statement.js';

const run = (transaction, { text, values }) => transaction.raw(text.replace(/\$\d+/g, '?'), values);

export const { withIdentity, withOrganization } = adapter((knex, statement, work) => {
  return knex.transaction(async (transaction) => {
    await run(transaction, statement);
    return work(transaction);
  });
});
