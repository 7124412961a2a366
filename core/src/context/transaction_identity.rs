//! The seal: the first identity that a transaction uses is the only one it ever has.
//!
//! Otherwise two identities could meet in one transaction: rows read as one organization are written as another, or
//! what one left behind (a cursor, a temporary table, a deferred trigger) runs as the other. The seal is memory of the
//! backend and no setting, so nothing that SQL can clear or set breaks it. It follows savepoints as rows do.

use super::value::{Context, Scope};
use crate::savepoint_stack::SavepointStack;
use std::rc::Rc;

/// Which identity the transaction keeps, if it has used one.
#[derive(Default)]
pub struct TransactionIdentity {
    kept: SavepointStack<Option<Rc<Context>>>,
    /// The identities that went with savepoints, and when each last did. A cursor that is older than the savepoint may
    /// still hold their rows.
    undone: Vec<(Rc<Context>, i64)>,
}

impl TransactionIdentity {
    pub const fn new() -> Self {
        TransactionIdentity { kept: SavepointStack::new(None), undone: Vec::new() }
    }

    /// True if the transaction is sealed to this identity.
    pub fn keeps(&self, context: &Context) -> bool {
        self.kept.get().as_ref().is_some_and(|kept| kept.is_of_the_same(context))
    }

    /// True if the transaction is sealed to somebody else.
    pub fn refuses(&self, context: &Context) -> bool {
        self.kept.get().as_ref().is_some_and(|kept| !kept.is_of_the_same(context))
    }

    /// True if the transaction has used an identity.
    pub fn is_set(&self) -> bool {
        self.kept.get().is_some()
    }

    /// When somebody else was last rolled back to a savepoint, if that happened.
    pub fn somebody_else_undone(&self, context: &Context) -> Option<i64> {
        self.undone.iter().filter(|(undone, _)| !undone.is_of_the_same(context)).map(|(_, at)| *at).max()
    }

    /// True if the transaction has used an identity that ends with it, signed out since or not.
    pub fn ends_with_the_transaction(&self) -> bool {
        self.kept.get().as_ref().is_some_and(|kept| kept.scope == Scope::Transaction)
    }

    /// Seals the transaction to an identity that it does not refuse.
    pub fn keep(&mut self, level: i32, context: Rc<Context>) {
        if !(self.ends_with_the_transaction() && self.keeps(&context)) {
            *self.kept.change(level) = Some(context);
        }
    }

    /// The subtransaction at `level` rolled back at this time; true if the seal it set went with it.
    pub fn roll_back(&mut self, level: i32, at: i64) -> bool {
        let before = self.kept.get().clone();
        self.kept.roll_back(level);
        let broken = before.is_some() && self.kept.get().is_none();
        if let Some(undone) = before.filter(|_| broken) {
            self.undone.retain(|(other, _)| !other.is_of_the_same(&undone));
            self.undone.push((undone, at));
        }
        broken
    }

    /// The subtransaction at `level` was released.
    pub fn release(&mut self, level: i32) {
        self.kept.release(level);
    }

    /// The transaction ended.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.undone.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::value::{Organization, Permissions};
    use uuid::Uuid;

    fn identity(subject: &str, organization: u128) -> Context {
        let id = Uuid::from_u128(organization);
        Context {
            scope: Scope::Transaction,
            method: "token".into(),
            organization: Organization { id, text_id: id.to_string(), integer_id: None },
            subject: subject.into(),
            issuer: "https://issuer.example/".into(),
            role: "admin".into(),
            membership_role: "admin".into(),
            key_id: None,
            session_id: None,
            reason: None,
            correlation_id: None,
            expires_at: 0,
            permissions: Permissions::default(),
            claims: "{}".into(),
        }
    }

    fn sealed(context: &Context) -> TransactionIdentity {
        let mut seal = TransactionIdentity::new();
        seal.keep(1, Rc::new(context.clone()));
        seal
    }

    #[test]
    fn another_subject_organization_or_issuer_is_refused_and_the_same_with_another_token_is_not() {
        let ada = identity("ada", 1);
        let seal = sealed(&ada);
        assert!(seal.keeps(&ada) && !seal.refuses(&ada));
        assert!(!seal.refuses(&Context { expires_at: 9, session_id: Some("new".into()), ..ada.clone() }));
        assert!(seal.refuses(&identity("ada", 2)));
        assert!(seal.refuses(&identity("bob", 1)));
        assert!(seal.refuses(&Context { issuer: "https://other.example/".into(), ..ada }));
    }

    #[test]
    fn a_rolled_back_savepoint_takes_the_seal_it_set_and_remembers_whose() {
        let (ada, bob) = (identity("ada", 1), identity("bob", 2));
        let mut seal = TransactionIdentity::new();
        seal.keep(2, Rc::new(ada.clone()));
        assert!(seal.roll_back(2, 7));
        assert!(!seal.refuses(&bob));
        assert_eq!((seal.somebody_else_undone(&bob), seal.somebody_else_undone(&ada)), (Some(7), None));
        seal.clear();
        assert_eq!(seal.somebody_else_undone(&bob), None);
    }

    #[test]
    fn a_savepoint_within_a_sealed_transaction_breaks_nothing() {
        let (ada, bob) = (identity("ada", 1), identity("bob", 2));
        let mut seal = sealed(&ada);
        seal.keep(2, Rc::new(ada));
        assert!(!seal.roll_back(2, 7));
        assert!(seal.refuses(&bob));
    }

    #[test]
    fn a_released_savepoint_keeps_its_seal() {
        let mut seal = TransactionIdentity::new();
        seal.keep(2, Rc::new(identity("ada", 1)));
        seal.release(2);
        assert!(seal.refuses(&identity("bob", 2)));
    }

    #[test]
    fn once_the_identity_ends_with_the_transaction_a_session_of_the_same_does_not_change_that() {
        let ada = identity("ada", 1);
        let session = Context { scope: Scope::Session, ..ada.clone() };
        let mut seal = sealed(&session);
        assert!(!seal.ends_with_the_transaction());
        seal.keep(1, Rc::new(ada));
        seal.keep(1, Rc::new(session));
        assert!(seal.ends_with_the_transaction());
    }
}
