//! What somebody should look at now.

/// What an alert is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AlertKind {
    /// Somebody asks for the approval of an action type.
    ActionRequested,
    /// The approval of an action type, or the request for it, was withdrawn.
    ActionWithdrawn,
    /// A health report says that a version of a secret does not work.
    HealthFailed,
    /// A version of a secret was rolled back to the one before.
    RolledBack,
    /// The approval of an action type ends soon.
    ApprovalEnding,
    /// Somebody asks for an exception.
    ExceptionRequested,
    /// An exception ends soon.
    ExceptionEnding,
    /// A value is older than its secret allows.
    RotationOverdue,
    /// A rotation is past its deadline.
    RotationStuck,
    /// A credential ends at the provider soon, or has ended.
    SecretExpiring,
    /// A guardrail is less strict than it was.
    GuardrailLoosened,
    /// Somebody asks for break-glass.
    BreakGlassRequested,
    /// A request for break-glass has all its approvals.
    BreakGlassApproved,
    /// A grant of break-glass is used from now on.
    BreakGlassActivated,
    /// A grant of break-glass has ended, or was revoked.
    BreakGlassEnded,
    /// A grant of break-glass was not signed off in time.
    SignOffOverdue,
    /// A review was opened.
    ReviewOpened,
    /// A review is due and not closed.
    ReviewOverdue,
}

impl AlertKind {
    /// Every kind, in the order of the documentation.
    pub const ALL: [AlertKind; 18] = [
        AlertKind::ActionRequested,
        AlertKind::ActionWithdrawn,
        AlertKind::HealthFailed,
        AlertKind::RolledBack,
        AlertKind::ApprovalEnding,
        AlertKind::ExceptionRequested,
        AlertKind::ExceptionEnding,
        AlertKind::RotationOverdue,
        AlertKind::RotationStuck,
        AlertKind::SecretExpiring,
        AlertKind::GuardrailLoosened,
        AlertKind::BreakGlassRequested,
        AlertKind::BreakGlassApproved,
        AlertKind::BreakGlassActivated,
        AlertKind::BreakGlassEnded,
        AlertKind::SignOffOverdue,
        AlertKind::ReviewOpened,
        AlertKind::ReviewOverdue,
    ];

    /// The word that is stored, and sent to whoever listens.
    pub fn name(self) -> &'static str {
        match self {
            AlertKind::ActionRequested => "action_requested",
            AlertKind::ActionWithdrawn => "action_withdrawn",
            AlertKind::HealthFailed => "health_failed",
            AlertKind::RolledBack => "rolled_back",
            AlertKind::ApprovalEnding => "approval_ending",
            AlertKind::ExceptionRequested => "exception_requested",
            AlertKind::ExceptionEnding => "exception_ending",
            AlertKind::RotationOverdue => "rotation_overdue",
            AlertKind::RotationStuck => "rotation_stuck",
            AlertKind::SecretExpiring => "secret_expiring",
            AlertKind::GuardrailLoosened => "guardrail_loosened",
            AlertKind::BreakGlassRequested => "break_glass_requested",
            AlertKind::BreakGlassApproved => "break_glass_approved",
            AlertKind::BreakGlassActivated => "break_glass_activated",
            AlertKind::BreakGlassEnded => "break_glass_ended",
            AlertKind::SignOffOverdue => "sign_off_overdue",
            AlertKind::ReviewOpened => "review_opened",
            AlertKind::ReviewOverdue => "review_overdue",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_stands_in_the_documentation() {
        let page = include_str!("../../../docs/monitoring.md");
        let (_, page) = page.split_once("\n## Alerts\n").unwrap();
        let page = page.split("\n## ").next().unwrap();
        let rows = page.lines().filter(|line| line.starts_with("| `")).count();
        for kind in AlertKind::ALL {
            let row = format!("\n| `{}` | ", kind.name());
            assert!(page.contains(&row), "docs/monitoring.md lacks {row}");
        }
        assert_eq!(rows, AlertKind::ALL.len(), "docs/monitoring.md has a row that no kind stands behind");
    }
}
