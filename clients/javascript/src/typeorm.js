import { adapter } from './statement.js';

export const { withIdentity, withOrganization } = adapter((source, { text, values }, work) => {
  return source.transaction(async (manager) => {
    await manager.query(text, values);
    return work(manager);
  });
});
