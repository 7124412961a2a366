//! The transaction identity: a transaction is bound to the first identity that it uses.
//!
//! Two identities in one transaction could mix tenants. Rows read as one organization could be written as another. A
//! cursor, a temporary table or a deferred trigger of one identity could run as the other. The identity is kept in
//! backend memory and not in a setting, so that no SQL can clear or set it. It follows savepoints as rows do.
//!
//! Decision: `docs/decisions/02-transaction-identity.md`.

use super::value::{Context, Scope};
use crate::savepoint_stack::SavepointStack;
use std::rc::Rc;

/// The identity that the transaction is bound to, if it has used one.
#[derive(Default)]
pub struct TransactionIdentity {
    kept: SavepointStack<Option<Rc<Context>>>,
    /// The identities that rollbacks to savepoints removed, each with the time of the last such rollback.
    ///
    /// A cursor that is older than the savepoint may still hold rows of such an identity.
    undone: Vec<(Rc<Context>, i64)>,
}

impl TransactionIdentity {
    /// The state at the start of a transaction: no identity has been used.
    pub const fn new() -> Self {
        TransactionIdentity { kept: SavepointStack::new(None), undone: Vec::new() }
    }

    /// Whether the transaction is bound to the identity of this context.
    pub fn keeps(&self, context: &Context) -> bool {
        self.kept.get().as_ref().is_some_and(|kept| kept.is_of_the_same(context))
    }

    /// Whether the transaction is bound to another identity.
    pub fn refuses(&self, context: &Context) -> bool {
        self.kept.get().as_ref().is_some_and(|kept| !kept.is_of_the_same(context))
    }

    /// Whether the transaction has used an identity.
    pub fn is_set(&self) -> bool {
        self.kept.get().is_some()
    }

    /// The time of the last rollback to a savepoint that removed another identity, if one did.
    ///
    /// The time is the value that [`Self::roll_back`] received.
    pub fn somebody_else_undone(&self, context: &Context) -> Option<i64> {
        self.undone.iter().filter(|(undone, _)| !undone.is_of_the_same(context)).map(|(_, at)| *at).max()
    }

    /// Whether the transaction has used an identity of [`Scope::Transaction`], signed out since or not.
    pub fn ends_with_the_transaction(&self) -> bool {
        self.kept.get().as_ref().is_some_and(|kept| kept.scope == Scope::Transaction)
    }

    /// Binds the transaction, at nesting `level`, to an identity that it does not refuse.
    pub fn keep(&mut self, level: i32, context: Rc<Context>) {
        if !(self.ends_with_the_transaction() && self.keeps(&context)) {
            *self.kept.change(level) = Some(context);
        }
    }

    /// Lets the identity of the transaction go at nesting `level`, for another one that follows it at the time `at`.
    ///
    /// Only `tenancy.several_identities` permits that. What is left of it counts as after [`Self::roll_back`].
    pub fn leave(&mut self, level: i32, at: i64) {
        if let Some(left) = self.kept.change(level).take() {
            self.remember_undone(left, at);
        }
    }

    fn remember_undone(&mut self, undone: Rc<Context>, at: i64) {
        self.undone.retain(|(other, _)| !other.is_of_the_same(&undone));
        self.undone.push((undone, at));
    }

    /// Restores the state after the subtransaction at `level` rolled back at the time `at`.
    ///
    /// Returns true if the rollback removed the identity that the transaction was bound to.
    pub fn roll_back(&mut self, level: i32, at: i64) -> bool {
        let before = self.kept.get().clone();
        self.kept.roll_back(level);
        let broken = before.is_some() && self.kept.get().is_none();
        if let Some(undone) = before.filter(|_| broken) {
            self.remember_undone(undone, at);
        }
        broken
    }

    /// Assigns the changes of the released subtransaction at `level` to the level above.
    pub fn release(&mut self, level: i32) {
        self.kept.release(level);
    }

    /// Resets the state at the end of the transaction.
    pub fn clear(&mut self) {
        self.kept.clear();
        self.undone.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::context::value::Organization;
    use crate::controls::permission_set::PermissionSet;
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
            permissions: PermissionSet::default(),
            elevation: None,
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
    fn who_is_left_for_another_is_remembered_and_comes_back_with_the_savepoint() {
        let (ada, bob) = (identity("ada", 1), identity("bob", 2));
        let mut seal = sealed(&ada);
        seal.leave(2, 7);
        assert!(!seal.refuses(&bob));
        assert_eq!((seal.somebody_else_undone(&bob), seal.somebody_else_undone(&ada)), (Some(7), None));
        seal.keep(2, Rc::new(bob.clone()));
        assert!(seal.refuses(&ada));
        assert!(!seal.roll_back(2, 9));
        assert!(seal.keeps(&ada) && seal.refuses(&bob));
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
