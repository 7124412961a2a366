// The data source of migrations, which the command line reads: `typeorm schema:log -d data-source.js`.

import { quiet } from 'pg-tenancy/typeorm';
import { DataSource } from 'typeorm';

import * as entities from './entities.js';

export default quiet(new DataSource({
  type: 'postgres',
  url: process.env.DATABASE_URL,
  entities: Object.values(entities),
  migrations: ['migrations/*.js'],
}), { reason: 'migration of the shop' });
