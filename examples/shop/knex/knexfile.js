import { giveReason } from 'pg-tenancy/pg';

export default {
  client: 'pg',
  connection: { connectionString: process.env.DATABASE_URL },
  migrations: { directory: './migrations' },
  // Lets migrations drop relations between protected tables; the audit records the reason.
  pool: { afterCreate: (client, done) => done(null, giveReason(client, 'migration of the shop')) },
};
