//! Who asks about guardrails.

use crate::context;
use crate::pg::user;
use pg_tenancy_core::error::Result;
use uuid::Uuid;

/// Whose guardrails the caller sees.
pub struct Viewer {
    /// The nil UUID for what binds all organizations.
    pub organization: Uuid,
    /// Also who has set what for all, and what happened in each organization.
    pub sees_all: bool,
}

impl Viewer {
    /// Administrators, auditors, and members with the permission.
    pub fn now() -> Result<Self> {
        let sees_all = [c"tenancy_admin", c"tenancy_auditor"].into_iter().any(user::has_role);
        if !sees_all {
            context::authorize("guardrail", "read")?;
        }
        let context = context::current()?;
        Ok(Viewer { organization: context.map_or(Uuid::nil(), |context| context.organization.id), sees_all })
    }
}
