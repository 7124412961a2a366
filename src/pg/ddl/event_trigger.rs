//! What Postgres tells an event trigger.

use super::grant::{self, Grant};
use super::node;
use crate::pg::spi::{self, Query};
use pg_tenancy_core::error::{self, Result};
use pgrx::pg_sys;
use std::ffi::CStr;

/// What the statement could have done to the protection of a table, from its parse tree: the catalogs tell what it did.
#[derive(Debug, Clone, Default)]
pub struct DdlStatement {
    /// The command tag, such as `ALTER TABLE`.
    pub tag: String,
    /// It drops, disables, renames or replaces something.
    pub takes_away: bool,
    /// It makes a table, a column, or a name by which a table may be one with an organization column.
    pub brings: bool,
    /// It makes a table part of another.
    pub attaches: bool,
    /// It could have brought a foreign key, or given one another name.
    pub brings_keys: bool,
    /// The table that it makes or attaches a partition of.
    pub partition_of: Option<pg_sys::Oid>,
    /// The table whose columns it drops, without what depends on them, or gives other types; they are among the parts.
    pub changes_columns_of: Option<pg_sys::Oid>,
    /// The extensions that it drops, without what depends on them.
    pub drops_extensions: Vec<String>,
    /// The table that it takes out of another.
    pub detached: Option<pg_sys::Oid>,
    /// The parts of an ALTER TABLE.
    pub parts: Vec<Part>,
    /// What the object was called before.
    pub renamed_from: Option<String>,
    /// What it is called now.
    pub renamed_to: Option<String>,
    /// ALTER ... SET SCHEMA.
    pub moves: bool,
    /// ALTER SCHEMA ... RENAME: from what to what.
    pub renamed_schema: Option<(String, String)>,
    /// Whose objects it drops or gives away, and to whom.
    pub owners: Option<(Vec<String>, Option<String>)>,
    /// ALTER DEFAULT PRIVILEGES: for which roles, in which schemas, and what.
    pub default_privileges: Option<(Vec<String>, Vec<String>, Grant)>,
}

/// A part of an ALTER TABLE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// What it does, in lower case: `disable_trigger`, `add_column`; `other` for what matters little.
    pub name: &'static str,
    /// The column, constraint or trigger; `ALL` or `USER` where triggers are named so; the new owner.
    pub object: Option<String>,
}

/// A table that the statement changed, or whose policy or trigger it did.
pub struct Table {
    pub oid: pg_sys::Oid,
    pub schema: String,
    pub name: String,
}

/// A policy or trigger that was dropped from a table that is still there.
pub struct DroppedTable {
    pub table: Table,
    pub name: String,
}

/// A foreign key or an index that was dropped from a table that is still there.
pub struct DroppedKey {
    pub table: Table,
    pub name: String,
    pub is_foreign: bool,
    /// The columns of a foreign key, and the table that it pointed at.
    pub columns: Vec<String>,
    pub parent: Option<pg_sys::Oid>,
}

/// Reads the call; an error when the function was not called as an event trigger.
pub fn statement(call: pg_sys::FunctionCallInfo) -> Result<DdlStatement> {
    // SAFETY: Postgres passes a valid call; `context` is an EventTriggerData node exactly when it says so
    // (event_trigger.h), and its parse tree lives during the call.
    unsafe {
        let context = (*call).context;
        if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_EventTriggerData {
            return Err(error::CALL_REFUSED.error("this function can only be called as an event trigger"));
        }
        let data = &*context.cast::<pg_sys::EventTriggerData>();
        let tag = CStr::from_ptr(pg_sys::GetCommandTagName(data.tag)).to_string_lossy().into_owned();
        Ok(look(DdlStatement { tag, ..DdlStatement::default() }, data.parsetree))
    }
}

/// # Safety
/// `tree` is NULL or a parse tree.
unsafe fn look(mut statement: DdlStatement, tree: *mut pg_sys::Node) -> DdlStatement {
    use pg_sys::NodeTag::*;
    use pg_sys::ObjectType::*;
    if tree.is_null() {
        return statement;
    }
    // SAFETY: a node is of the struct that its tag says.
    unsafe {
        match (*tree).type_ {
            T_CreateStmt => {
                statement.brings = true;
                let create = &*tree.cast::<pg_sys::CreateStmt>();
                statement.attaches = !create.inhRelations.is_null();
                if !create.partbound.is_null() {
                    statement.partition_of =
                        node::each(create.inhRelations).next().and_then(|name| node::relation(name));
                }
            }
            T_CreateForeignTableStmt | T_ImportForeignSchemaStmt | T_CreateTableAsStmt | T_CreateSchemaStmt => {
                statement.brings = true
            }
            T_AlterObjectSchemaStmt => (statement.brings, statement.moves) = (true, true),
            T_AlterPolicyStmt => statement.takes_away = true,
            T_CreateTrigStmt => statement.takes_away = (*tree.cast::<pg_sys::CreateTrigStmt>()).replace,
            T_RenameStmt => {
                let rename = &*tree.cast::<pg_sys::RenameStmt>();
                match rename.renameType {
                    OBJECT_POLICY | OBJECT_TRIGGER => statement.takes_away = true,
                    OBJECT_TABCONSTRAINT => (statement.takes_away, statement.brings_keys) = (true, true),
                    OBJECT_COLUMN => (statement.brings, statement.takes_away) = (true, true),
                    _ => statement.brings = true,
                }
                if rename.renameType == OBJECT_SCHEMA {
                    statement.renamed_schema = node::text(rename.subname).zip(node::text(rename.newname));
                }
                let of_relation = || (!rename.relation.is_null()).then(|| node::text((*rename.relation).relname))?;
                statement.renamed_from = node::text(rename.subname).or_else(of_relation);
                statement.renamed_to = node::text(rename.newname);
            }
            T_DropStmt => {
                let drop = &*tree.cast::<pg_sys::DropStmt>();
                if drop.removeType == OBJECT_EXTENSION && drop.behavior == pg_sys::DropBehavior::DROP_RESTRICT {
                    statement.drops_extensions = node::strings(drop.objects);
                }
            }
            T_DropOwnedStmt => {
                statement.owners = Some((node::roles((*tree.cast::<pg_sys::DropOwnedStmt>()).roles), None));
            }
            T_ReassignOwnedStmt => {
                let reassign = &*tree.cast::<pg_sys::ReassignOwnedStmt>();
                statement.owners = Some((node::roles(reassign.roles), node::role(reassign.newrole)));
            }
            T_AlterDefaultPrivilegesStmt => {
                statement.default_privileges = Some(default_privileges(&*tree.cast()));
            }
            T_AlterTableStmt => {
                let alter = &*tree.cast::<pg_sys::AlterTableStmt>();
                for command in node::each(alter.cmds) {
                    let command: &pg_sys::AlterTableCmd = &*command;
                    let drops = command.subtype == pg_sys::AlterTableType::AT_DropColumn
                        && command.behavior == pg_sys::DropBehavior::DROP_RESTRICT;
                    if drops || command.subtype == pg_sys::AlterTableType::AT_AlterColumnType {
                        statement.changes_columns_of = node::relation(alter.relation);
                    }
                    if command.subtype == pg_sys::AlterTableType::AT_AttachPartition {
                        statement.partition_of = node::relation(alter.relation);
                    }
                    look_at_part(&mut statement, command);
                    statement.parts.push(part(command));
                }
            }
            _ => {}
        }
    }
    statement
}

/// # Safety
/// A statement that Postgres has parsed.
unsafe fn default_privileges(statement: &pg_sys::AlterDefaultPrivilegesStmt) -> (Vec<String>, Vec<String>, Grant) {
    let (mut roles, mut schemas) = (Vec::new(), Vec::new());
    // SAFETY: as promised; both options have a list (gram.y).
    unsafe {
        for option in node::each::<pg_sys::DefElem>(statement.options) {
            let list = (*option).arg.cast();
            match node::text((*option).defname).as_deref() {
                Some("roles") => roles = node::roles(list),
                Some("schemas") => schemas = node::strings(list),
                _ => {}
            }
        }
        (roles, schemas, grant::read_statement(&*statement.action))
    }
}

/// # Safety
/// A part of an ALTER TABLE that Postgres has parsed.
#[allow(non_upper_case_globals)] // Postgres' names
unsafe fn part(part: &pg_sys::AlterTableCmd) -> Part {
    use pg_sys::AlterTableType::*;
    let name = match part.subtype {
        AT_AddColumn => "add_column",
        AT_ColumnDefault => "column_default",
        AT_DropNotNull => "drop_not_null",
        AT_SetNotNull => "set_not_null",
        AT_DropColumn => "drop_column",
        AT_AlterColumnType => "alter_column_type",
        AT_AddConstraint | AT_AddIndexConstraint => "add_constraint",
        AT_AddIndex => "add_index",
        AT_AlterConstraint => "alter_constraint",
        AT_ValidateConstraint => "validate_constraint",
        AT_DropConstraint => "drop_constraint",
        AT_ChangeOwner => "owner",
        AT_EnableTrig | AT_EnableTrigAll | AT_EnableTrigUser => "enable_trigger",
        AT_EnableAlwaysTrig => "enable_always_trigger",
        AT_EnableReplicaTrig => "enable_replica_trigger",
        AT_DisableTrig | AT_DisableTrigAll | AT_DisableTrigUser => "disable_trigger",
        AT_EnableRule => "enable_rule",
        AT_EnableAlwaysRule => "enable_always_rule",
        AT_EnableReplicaRule => "enable_replica_rule",
        AT_DisableRule => "disable_rule",
        AT_AddInherit => "inherit",
        AT_DropInherit => "no_inherit",
        AT_AttachPartition => "attach_partition",
        AT_DetachPartition | AT_DetachPartitionFinalize => "detach_partition",
        AT_ReplicaIdentity => "replica_identity",
        AT_EnableRowSecurity => "enable_row_security",
        AT_DisableRowSecurity => "disable_row_security",
        AT_ForceRowSecurity => "force_row_security",
        AT_NoForceRowSecurity => "no_force_row_security",
        AT_SetLogged => "set_logged",
        AT_SetUnLogged => "set_unlogged",
        _ => "other",
    };
    // SAFETY: as promised; names are NULL or NUL-terminated, and the tag tells what a definition is.
    let object = unsafe {
        match part.subtype {
            AT_EnableTrigAll | AT_DisableTrigAll => Some("ALL".into()),
            AT_EnableTrigUser | AT_DisableTrigUser => Some("USER".into()),
            AT_ChangeOwner => node::role(part.newowner),
            AT_AddColumn if !part.def.is_null() && (*part.def).type_ == pg_sys::NodeTag::T_ColumnDef => {
                node::text((*part.def.cast::<pg_sys::ColumnDef>()).colname)
            }
            AT_AddConstraint if !part.def.is_null() && (*part.def).type_ == pg_sys::NodeTag::T_Constraint => {
                node::text((*part.def.cast::<pg_sys::Constraint>()).conname)
            }
            _ => node::text(part.name),
        }
    };
    Part { name, object }
}

/// # Safety
/// A part of an ALTER TABLE that Postgres has parsed.
#[allow(non_upper_case_globals)] // Postgres' names
unsafe fn look_at_part(statement: &mut DdlStatement, part: &pg_sys::AlterTableCmd) {
    use pg_sys::AlterTableType::*;
    match part.subtype {
        AT_DisableRowSecurity
        | AT_NoForceRowSecurity
        | AT_DisableTrig
        | AT_DisableTrigAll
        | AT_DisableTrigUser
        | AT_EnableTrig
        | AT_EnableTrigAll
        | AT_EnableTrigUser
        | AT_EnableReplicaTrig
        | AT_AlterConstraint
        | AT_DropNotNull
        | AT_DropConstraint => statement.takes_away = true,
        AT_AddColumn => {
            statement.brings = true;
            // SAFETY: as promised.
            statement.brings_keys |= unsafe { node::is_foreign_key(part.def) };
        }
        // SAFETY: as promised.
        AT_AddConstraint => statement.brings_keys |= unsafe { node::is_foreign_key(part.def) },
        AT_AttachPartition | AT_AddInherit | AT_DropInherit => {
            statement.brings = true;
            statement.attaches = true;
        }
        // SAFETY: the definition of this part is a PartitionCmd with the partition's name (parsenodes.h).
        AT_DetachPartition => unsafe {
            statement.detached = node::relation((*part.def.cast::<pg_sys::PartitionCmd>()).name);
        },
        _ => {}
    }
}

/// The tables that the statement changed, of the kinds that hold rows; only within `ddl_command_end`.
pub fn tables() -> Vec<Table> {
    let read = |row: &spi::Row| Some(Table { oid: row.get(1)?, schema: row.get(2)?, name: row.get(3)? });
    spi::query(TABLES, read).into_iter().flatten().collect()
}

const TABLES: &str = "
    SELECT DISTINCT c.oid, n.nspname::text, c.relname::text
      FROM pg_event_trigger_ddl_commands() d
      LEFT JOIN pg_policy p
        ON d.classid = 'pg_policy'::regclass AND p.oid = d.objid
      LEFT JOIN pg_trigger t
        ON d.classid = 'pg_trigger'::regclass AND t.oid = d.objid
      LEFT JOIN pg_constraint k
        ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid
      JOIN pg_class c
        ON c.oid = COALESCE(p.polrelid, t.tgrelid, k.conrelid,
             CASE WHEN d.classid = 'pg_class'::regclass THEN d.objid END)
      JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p', 'f') AND c.relpersistence <> 't'
     ORDER BY 1";

/// The policies and triggers that were dropped and whose tables were not; only within `sql_drop`.
pub fn dropped() -> Vec<DroppedTable> {
    let read = |row: &spi::Row| {
        let table = Table { oid: row.get(1)?, schema: row.get(2)?, name: row.get(3)? };
        Some(DroppedTable { table, name: row.get(4)? })
    };
    spi::query(DROPPED, read).into_iter().flatten().collect()
}

const DROPPED: &str = "
    SELECT c.oid, n.nspname::text, c.relname::text, d.address_names[3]
      FROM pg_event_trigger_dropped_objects() d
      JOIN pg_namespace n ON n.nspname = d.address_names[1]
      JOIN pg_class c
        ON c.relnamespace = n.oid AND c.relname = d.address_names[2]
     WHERE d.object_type IN ('policy', 'trigger')
       AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'";

/// The foreign keys and indexes that were dropped; only within `sql_drop`.
///
/// With the snapshot of the statement, in which they are still there to be read.
pub fn dropped_keys() -> Vec<DroppedKey> {
    let read = |row: &spi::Row| {
        let table = Table { oid: row.get(1)?, schema: row.get(2)?, name: row.get(3)? };
        let columns = row.get::<Vec<Option<String>>>(6).unwrap_or_default().into_iter().flatten().collect();
        Some(DroppedKey { table, name: row.get(4)?, is_foreign: row.get(5)?, columns, parent: row.get(7) })
    };
    DROPPED_KEYS.read(&[], read).into_iter().flatten().collect()
}

static DROPPED_KEYS: Query = Query::new(
    "SELECT c.oid, n.nspname::text, c.relname::text, COALESCE(k.conname, ic.relname)::text, k.oid IS NOT NULL,
            ARRAY(SELECT a.attname::text FROM pg_attribute a
                   WHERE a.attrelid = k.conrelid AND a.attnum = ANY (k.conkey)), k.confrelid
       FROM pg_event_trigger_dropped_objects() d
       LEFT JOIN pg_constraint k
         ON d.classid = 'pg_constraint'::regclass AND k.oid = d.objid AND k.contype = 'f'
       LEFT JOIN pg_index i
         ON d.classid = 'pg_class'::regclass AND i.indexrelid = d.objid
       LEFT JOIN pg_class ic ON ic.oid = i.indexrelid
       JOIN pg_class c ON c.oid = COALESCE(k.conrelid, i.indrelid)
       JOIN pg_namespace n ON n.oid = c.relnamespace
      WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't'",
);

/// A table that is about to be written anew.
pub struct RewrittenTable {
    pub table: Table,
    /// Columns get another type, or values that an expression gives.
    pub changes_columns: bool,
    /// New columns get a value of their own in each row.
    pub fills_columns: bool,
}

/// What is rewritten and why; only within `table_rewrite`.
pub fn rewrite() -> Option<RewrittenTable> {
    let read = |row: &spi::Row| {
        let table = Table { oid: row.get(1)?, schema: row.get(2)?, name: row.get(3)? };
        // AT_REWRITE_DEFAULT_VAL and AT_REWRITE_COLUMN_REWRITE (event_trigger.h).
        let reason: i32 = row.get(4)?;
        Some(RewrittenTable { table, changes_columns: reason & 4 != 0, fills_columns: reason & 2 != 0 })
    };
    spi::query(REWRITTEN, read).into_iter().flatten().next()
}

const REWRITTEN: &str = "
    SELECT c.oid, n.nspname::text, c.relname::text, pg_event_trigger_table_rewrite_reason()
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.oid = pg_event_trigger_table_rewrite_oid()";
