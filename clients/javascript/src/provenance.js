import { override } from './statement.js';

// What `tenancy.protect` made of a database's tables, read from the comments that it leaves on its objects.

const MADE = 'Made by tenancy.protect; ';

export const PROVENANCE = `
  SELECT n.nspname AS schema, c.relname AS "table", k.conname AS name, k.contype::text AS kind, d.description AS made
    FROM pg_catalog.pg_description d
    JOIN pg_catalog.pg_constraint k ON k.oid = d.objoid
    JOIN pg_catalog.pg_class c ON c.oid = k.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE d.classoid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND d.description LIKE '${MADE}%'
  UNION ALL
  SELECT n.nspname, c.relname, p.polname, 'p', d.description
    FROM pg_catalog.pg_description d
    JOIN pg_catalog.pg_policy p ON p.oid = d.objoid
    JOIN pg_catalog.pg_class c ON c.oid = p.polrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
   WHERE d.classoid = 'pg_catalog.pg_policy'::pg_catalog.regclass AND d.description LIKE '${MADE}%'`;

// Anybody who owns a table can write such a comment, so what it holds is only compared with names.
function read(comment) {
  try {
    return JSON.parse(comment.slice(comment.indexOf('{')));
  } catch {
    return {};
  }
}

/** What was made, by the name of schema and table. */
export class Provenance {
  #tables = new Map();

  constructor(rows) {
    for (const { schema, table, name, kind, made } of rows) {
      const entry = this.of(schema, table);
      const before = read(made);
      if (kind === 'f') entry.references.set(name, before);
      else if (kind === 'u') entry.keys.add(name);
      else if (before.column) Object.assign(entry, { organization: before });
    }
  }

  of(schema, table) {
    const id = JSON.stringify([schema, table]);
    if (!this.#tables.has(id)) this.#tables.set(id, { references: new Map(), keys: new Set(), organization: undefined });
    return this.#tables.get(id);
  }

  /** Whether there is a foreign key of this name that carries the organization. */
  hasReference(name) {
    return [...this.#tables.values()].some((entry) => entry.references.has(name));
  }
}

// Statements that drop one constraint or one column and do nothing else, as tools write them.
const NAME = '(?:"[^"]+"|[\\w$]+)';
const alter = (what, end) => new RegExp(`^\\s*ALTER TABLE (?:IF EXISTS )?(?:ONLY )?(${NAME}(?:\\.${NAME})?) `
  + `DROP ${what} (?:IF EXISTS )?(${NAME})(?: ${end})?\\s*;?\\s*$`, 'i');
const CONSTRAINT = alter('CONSTRAINT', 'RESTRICT');
const COLUMN = alter('COLUMN', '(?:RESTRICT|CASCADE)');

// Has the protection of a table no longer count with foreign keys that are gone.
const PROTECT = `
  SELECT tenancy.protect(p.polrelid::pg_catalog.regclass)
    FROM pg_catalog.pg_policy p
    JOIN pg_catalog.pg_description d ON d.objoid = p.oid AND d.classoid = 'pg_catalog.pg_policy'::pg_catalog.regclass
   WHERE p.polrelid = pg_catalog.to_regclass($1::text) AND d.description LIKE '${MADE}%"references":%'`;

/**
 * Runs a statement of a migration. If it drops a foreign key that carries the organization, the guardrails get the
 * reason for this statement alone. After that, and after a dropped column, the table's protection is brought up to date.
 */
export async function withReason(query, text, reason, statement) {
  const [, table, quoted] = CONSTRAINT.exec(text) ?? [];
  if (quoted) {
    const name = quoted.startsWith('"') ? quoted.slice(1, -1) : quoted.toLowerCase();
    if (!new Provenance(await query({ text: PROVENANCE })).hasReference(name)) return statement();
    await query(override(reason));
    const result = await statement();
    await query(override(''));
    await query({ text: PROTECT, values: [table] });
    return result;
  }
  const result = await statement();
  const [, changed] = COLUMN.exec(text) ?? [];
  if (changed) await query({ text: PROTECT, values: [changed] });
  return result;
}

/** Whether `withReason` has anything to do for a text. */
export const isDrop = (text) => typeof text === 'string' && (CONSTRAINT.test(text) || COLUMN.test(text));
