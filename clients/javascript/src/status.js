// Where drivers and mappers keep the error of the database: `cause` (Drizzle, TypeORM, Fastify), `driverError`
// (TypeORM), `parent` and `original` (Sequelize), `meta.driverAdapterError.cause` (Prisma).
const WRAPPINGS = ['cause', 'driverError', 'parent', 'original', 'meta', 'driverAdapterError'];
const SQLSTATE = /^[0-9A-Z]{5}$/;

function* chain(error, depth = 0) {
  if (error === null || typeof error !== 'object' || depth > 8) return;
  yield error;
  for (const name of WRAPPINGS) yield* chain(error[name], depth + 1);
}

/** The SQLSTATE of the database's own error, wherever the mapper keeps it; undefined if there is none. */
export function sqlstateOf(error) {
  for (const part of chain(error)) {
    // Codes of other layers look alike (P2010 of Prisma, EPIPE of node). The database's own error has a severity.
    const severity = part.severity ?? part.severity_local;
    if (typeof severity === 'string' && SQLSTATE.test(part.code)) return part.code;
    if (SQLSTATE.test(part.originalCode)) return part.originalCode;
  }
  return undefined;
}

/** What an API answers: 401 for 28000, 403 for 42501, 500 for everything else. */
export function statusOf(error) {
  // FATAL comes before any statement: the server refused the application's own login.
  for (const part of chain(error)) if ((part.severity ?? part.severity_local) === 'FATAL') return 500;
  return { 28000: 401, 42501: 403 }[sqlstateOf(error)] ?? 500;
}
