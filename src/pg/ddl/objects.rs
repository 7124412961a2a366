//! The objects that a statement made, changed and dropped, as far as they bear on who may do what and what is recorded.

use super::grant::{self, Grant};
use crate::pg::settings::scoped::{CANONICAL_SETTINGS, with_settings};
use crate::pg::spi::{self, Query, argument};
use crate::pg::user;
use pgrx::pg_sys;

/// An object that a statement made or changed, or on which it gave or took privileges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DdlObject {
    /// In the words of Postgres: `policy`, `table`.
    pub kind: String,
    /// With its schema, and with its table for what belongs to one.
    pub identity: String,
    /// The table that it is or belongs to.
    pub table: Option<(String, String)>,
    pub oid: Option<pg_sys::Oid>,
    /// JSON: what there is to say of it now.
    pub details: Option<String>,
    /// A partition of the audit itself, with its name and owner as they have to be.
    pub audit_partition: bool,
}

/// What a statement did; only within `ddl_command_end`.
pub struct Commands {
    pub objects: Vec<DdlObject>,
    pub grants: Vec<Grant>,
}

/// Reads both, in the name of the superuser: whoever runs the statement may not read the extension's own tables.
pub fn commands() -> Commands {
    let mut commands = Commands { objects: Vec::new(), grants: Vec::new() };
    read_as_stored(|| {
        COMMANDS.write(&[], |row| match object(row) {
            Some(object) => commands.objects.push(object),
            // SAFETY: a value of the type pg_ddl_command, of this call.
            None => commands.grants.extend(row.datum(8).and_then(|command| unsafe { grant::read(command) })),
        })
    });
    commands.objects.dedup();
    commands
}

fn read_as_stored<T>(read: impl FnOnce() -> T) -> T {
    user::as_superuser(|| with_settings(&CANONICAL_SETTINGS, read))
}

fn object(row: &spi::Row) -> Option<DdlObject> {
    Some(DdlObject {
        kind: row.get(1)?,
        identity: row.get(2)?,
        table: row.get(3).zip(row.get(4)),
        oid: row.get(5),
        details: row.get(6),
        audit_partition: row.get(7)?,
    })
}

/// What concerns protected tables and the extension, policies and publications anywhere, and every GRANT, of which
/// it is for [`granted`] to tell.
static COMMANDS: Query = Query::new(include_str!("ddl_commands.sql"));

/// Those of the objects of a GRANT that are in the extension's schema or in one with protected tables.
pub fn granted(grant: &Grant) -> Vec<DdlObject> {
    let oids: Vec<pg_sys::Oid> = grant.objects.clone();
    read_as_stored(|| GRANTED.write(&[argument(grant.class), argument(oids)], object)).into_iter().flatten().collect()
}

static GRANTED: Query = Query::new(
    "WITH scope AS MATERIALIZED (
         SELECT 'tenancy' AS name
          UNION SELECT schema_name FROM tenancy.protected_schema
          UNION SELECT n.nspname::text
           FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
           JOIN pg_namespace n ON n.oid = c.relnamespace
          WHERE p.polname = 'tenancy_isolation')
     SELECT i.type, i.identity, n.nspname::text, c.relname::text, o.oid, NULL::text, false
       FROM unnest($2) AS o (oid)
      CROSS JOIN LATERAL pg_identify_object($1, o.oid, 0) AS i
       LEFT JOIN pg_class c ON $1 = 'pg_class'::regclass AND c.oid = o.oid
       LEFT JOIN pg_namespace n ON n.oid = c.relnamespace
       LEFT JOIN pg_namespace s ON $1 = 'pg_namespace'::regclass AND s.oid = o.oid
       LEFT JOIN pg_proc f ON $1 = 'pg_proc'::regclass AND f.oid = o.oid
       LEFT JOIN pg_namespace fn ON fn.oid = f.pronamespace
      WHERE (c.relpersistence IS NULL OR c.relpersistence <> 't')
        AND COALESCE(n.nspname, s.nspname, fn.nspname)::text IN (SELECT name FROM scope)
      ORDER BY i.identity",
);

/// An object that a statement dropped.
#[derive(Debug, Clone)]
pub struct DroppedObject {
    pub kind: String,
    pub identity: String,
    pub schema: Option<String>,
    /// The parts of its name: for what belongs to a table, schema, table and name.
    pub names: Vec<String>,
    /// It was named in the statement.
    pub original: bool,
}

/// What was dropped; only within `sql_drop`.
pub fn dropped() -> Vec<DroppedObject> {
    let read = |row: &spi::Row| {
        Some(DroppedObject {
            kind: row.get(1)?,
            identity: row.get(2)?,
            schema: row.get(3),
            names: row.get(4).unwrap_or_default(),
            original: row.get(5)?,
        })
    };
    read_as_stored(|| DROPPED.write(&[], read)).into_iter().flatten().collect()
}

static DROPPED: Query = Query::new(
    "SELECT object_type, object_identity, schema_name, address_names, original
       FROM pg_event_trigger_dropped_objects() WHERE NOT is_temporary",
);

/// True if there is such a table and it has something that `protect` makes.
pub fn is_protected(schema: &str, table: &str) -> Option<bool> {
    let read = |row: &spi::Row| row.get::<bool>(1);
    read_as_stored(|| PROTECTED.write(&[argument(schema), argument(table)], read)).into_iter().flatten().next()
}

static PROTECTED: Query = Query::new(
    "SELECT EXISTS (SELECT FROM pg_policy p
                     WHERE p.polrelid = c.oid AND p.polname = 'tenancy_isolation')
         OR EXISTS (SELECT FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
                      JOIN pg_namespace o ON o.oid = f.pronamespace
                     WHERE t.tgrelid = c.oid AND o.nspname = 'tenancy')
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE n.nspname = $1::name AND c.relname = $2::name",
);

/// Whether all triggers of the extension on a table fire always; `None` for a table without any.
pub fn captures_always(table: pg_sys::Oid) -> Option<bool> {
    read_as_stored(|| CAPTURES.write(&[argument(table)], |row| row.get::<bool>(1))).into_iter().flatten().next()
}

static CAPTURES: Query = Query::new(
    "SELECT bool_and(t.tgenabled = 'A')
       FROM pg_trigger t JOIN pg_proc f ON f.oid = t.tgfoid
       JOIN pg_namespace n ON n.oid = f.pronamespace
      WHERE t.tgrelid = $1 AND n.nspname = 'tenancy'
        AND f.proname IN ('audit_row', 'audit_truncate', 'refuse_change', 'keep_secret_keys',
                          'keep_controls')",
);

/// The schema that a table was in before the statement, whose snapshot still tells it.
pub fn schema_before(table: pg_sys::Oid) -> Option<String> {
    read_as_stored(|| BEFORE.read(&[argument(table)], |row| row.get::<String>(1))).into_iter().flatten().next()
}

static BEFORE: Query = Query::new(
    "SELECT n.nspname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.oid = $1",
);

/// True if a table of the schema is protected.
pub fn has_protected(schema: &str) -> bool {
    read_as_stored(|| HAS_PROTECTED.write(&[argument(schema)], |row| row.get::<bool>(1)))
        .pop()
        .flatten()
        .unwrap_or(false)
}

static HAS_PROTECTED: Query = Query::new(
    "SELECT EXISTS (SELECT FROM pg_policy p JOIN pg_class c ON c.oid = p.polrelid
                      JOIN pg_namespace n ON n.oid = c.relnamespace
                     WHERE n.nspname = $1::name AND p.polname = 'tenancy_isolation')",
);
