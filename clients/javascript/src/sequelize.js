import sequelizePackage from 'sequelize';
import { adapter } from './statement.js';

const { DataTypes, literal } = sequelizePackage;

export const { withIdentity, withOrganization } = adapter((sequelize, { text, values }, work) => {
  return sequelize.transaction(async (transaction) => {
    await sequelize.query(text, { bind: values, transaction, logging: false });
    return work(transaction);
  });
});

export function organizationColumn({ field = 'organization_id', type = DataTypes.UUID } = {}) {
  return { type, field, allowNull: false, defaultValue: literal('tenancy.org_id()') };
}
