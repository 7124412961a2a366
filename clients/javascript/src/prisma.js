import { adapter, authenticate } from './statement.js';

export const { withIdentity, withOrganization } = adapter((prisma, { text, values }, work) => {
  return prisma.$transaction(async (transaction) => {
    await transaction.$executeRawUnsafe(text, ...values);
    return work(transaction);
  });
});

export function identity(who) {
  const { text, values } = authenticate(who);
  return (prisma) => prisma.$extends({
    name: 'pg-tenancy',
    query: {
      $allOperations: async ({ args, query }) => {
        const [, result] = await prisma.$transaction([prisma.$executeRawUnsafe(text, ...values), query(args)]);
        return result;
      },
    },
  });
}
