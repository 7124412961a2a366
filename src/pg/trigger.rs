//! What Postgres tells a trigger function.

use pg_tenancy_core::error::{self, Result};
use pgrx::pg_sys;
use std::ffi::CStr;

/// True where rows come by replication, or as if they did (`session_replication_role`): whoever made the change has
/// decided about it.
pub fn applies_for_another() -> bool {
    // SAFETY: a plain global of Postgres.
    unsafe { pg_sys::SessionReplicationRole == pg_sys::SESSION_REPLICATION_ROLE_REPLICA as i32 }
}

/// A call of a trigger function; valid while the call lasts.
pub struct Call<'a> {
    data: &'a pg_sys::TriggerData,
}

/// The operation that fired the trigger.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    Insert,
    Update,
    Delete,
    Truncate,
}

impl<'a> Call<'a> {
    /// Reads the call; an error when the function was not called as a trigger.
    pub fn new(call: pg_sys::FunctionCallInfo) -> Result<Self> {
        // SAFETY: Postgres passes a valid call; `context` is a TriggerData node exactly when it says so (trigger.h).
        unsafe {
            let context = (*call).context;
            if context.is_null() || (*context).type_ != pg_sys::NodeTag::T_TriggerData {
                return Err(error::CALL_REFUSED.error("this function can only be called as a trigger"));
            }
            Ok(Call { data: &*context.cast::<pg_sys::TriggerData>() })
        }
    }

    pub fn operation(&self) -> Operation {
        match self.data.tg_event & pg_sys::TRIGGER_EVENT_OPMASK {
            pg_sys::TRIGGER_EVENT_INSERT => Operation::Insert,
            pg_sys::TRIGGER_EVENT_UPDATE => Operation::Update,
            pg_sys::TRIGGER_EVENT_DELETE => Operation::Delete,
            _ => Operation::Truncate,
        }
    }

    /// True for `AFTER ... FOR EACH ROW`.
    pub fn is_after_row(&self) -> bool {
        let event = self.data.tg_event;
        event & pg_sys::TRIGGER_EVENT_ROW != 0
            && event & pg_sys::TRIGGER_EVENT_TIMINGMASK == pg_sys::TRIGGER_EVENT_AFTER
    }

    pub fn relation(&self) -> pg_sys::Relation {
        self.data.tg_relation
    }

    /// The row before, for UPDATE and DELETE.
    pub fn old(&self) -> Option<pg_sys::HeapTuple> {
        (self.operation() != Operation::Insert).then_some(self.data.tg_trigtuple)
    }

    /// The row after, for INSERT and UPDATE.
    pub fn new_row(&self) -> Option<pg_sys::HeapTuple> {
        match self.operation() {
            Operation::Insert => Some(self.data.tg_trigtuple),
            Operation::Update => Some(self.data.tg_newtuple),
            _ => None,
        }
    }

    /// The arguments given in CREATE TRIGGER.
    pub fn arguments(&self) -> Vec<&'a str> {
        // SAFETY: the trigger lives in the relation's cache entry, which is pinned during the call; its arguments are
        // NUL-terminated and, in a UTF-8 database, UTF-8.
        unsafe {
            let trigger = &*self.data.tg_trigger;
            (0..trigger.tgnargs as usize)
                .map(|n| CStr::from_ptr(*trigger.tgargs.add(n)).to_str().unwrap_or_default())
                .collect()
        }
    }

    /// The oid of the trigger, by which what was learned of it can be remembered.
    pub fn trigger_oid(&self) -> pg_sys::Oid {
        // SAFETY: as above.
        unsafe { (*self.data.tg_trigger).tgoid }
    }
}
