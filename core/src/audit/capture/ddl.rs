//! Names for statements that change the schema, and the statements that maintain the audit's own partitions.

/// The operation of an event: the command tag in lower case, with underscores.
pub fn operation(tag: &str) -> String {
    tag.to_lowercase().replace([' ', '-'], "_")
}

/// Whether an ALTER TABLE switched capture off or on: `capture_off`, `capture_on`, or `None` for neither.
///
/// `parts` are the subcommands. `always` states whether all capturing triggers of the table fire always after the
/// statement; it is `None` for a table without such triggers. ENABLE TRIGGER counts as off, because an enabled trigger
/// does not fire under `session_replication_role = replica`.
pub fn capture(parts: &[&str], always: Option<bool>) -> Option<&'static str> {
    let switched = parts.iter().any(|part| part.ends_with("_trigger"));
    match always {
        Some(true) if parts.contains(&"enable_always_trigger") => Some("capture_on"),
        Some(false) if switched && !parts.iter().all(|part| *part == "enable_always_trigger") => Some("capture_off"),
        _ => None,
    }
}

/// Whether the statement belongs to creating or restoring a monthly partition of the audit.
pub fn is_upkeep(tag: &str, parts: &[&str], trigger_function: Option<&str>) -> bool {
    const PARTS: [&str; 7] = [
        "attach_partition",
        "enable_always_trigger",
        "owner",
        "add_constraint",
        "add_index",
        "enable_row_security",
        "force_row_security",
    ];
    match tag {
        "CREATE TABLE" | "CREATE INDEX" | "COMMENT" => true,
        "CREATE TRIGGER" => trigger_function == Some("tenancy.refuse_change"),
        "ALTER TABLE" => parts.iter().all(|part| PARTS.contains(part)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_operation_is_named_as_its_statement() {
        assert_eq!(operation("CREATE POLICY"), "create_policy");
        assert_eq!(operation("GRANT"), "grant");
        assert_eq!(operation("ALTER DEFAULT PRIVILEGES"), "alter_default_privileges");
    }

    #[test]
    fn capture_is_off_unless_its_triggers_fire_always() {
        assert_eq!(capture(&["disable_trigger"], Some(false)), Some("capture_off"));
        assert_eq!(capture(&["enable_trigger"], Some(false)), Some("capture_off"));
        assert_eq!(capture(&["enable_replica_trigger", "owner"], Some(false)), Some("capture_off"));
        assert_eq!(capture(&["enable_always_trigger"], Some(true)), Some("capture_on"));
        assert_eq!(capture(&["enable_always_trigger"], Some(false)), None, "one of several is on again");
        assert_eq!(capture(&["disable_trigger"], Some(true)), None, "a trigger of somebody else");
        assert_eq!(capture(&["disable_trigger"], None), None);
        assert_eq!(capture(&["owner"], Some(false)), None);
    }

    #[test]
    fn nothing_that_opens_the_audit_is_upkeep() {
        assert!(is_upkeep("CREATE TRIGGER", &[], Some("tenancy.refuse_change")));
        assert!(!is_upkeep("CREATE TRIGGER", &[], Some("public.evil")));
        assert!(is_upkeep("ALTER TABLE", &["owner", "attach_partition"], None));
        for part in [
            "no_force_row_security",
            "disable_row_security",
            "disable_trigger",
            "enable_trigger",
            "detach_partition",
            "drop_column",
            "no_inherit",
            "other",
        ] {
            assert!(!is_upkeep("ALTER TABLE", &["owner", part], None), "{part}");
        }
        assert!(!is_upkeep("CREATE RULE", &[], None));
        assert!(!is_upkeep("GRANT", &[], None));
    }
}
