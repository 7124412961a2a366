-- Members and roles of an organization, kept by its own admins through SQL alone. Code: src/controls/. The tables are
-- in sql/identity/.

CREATE FUNCTION tenancy.keep_admin() RETURNS trigger
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_keep_admin';
COMMENT ON FUNCTION tenancy.keep_admin() IS
'Trigger function of tenancy.membership and tenancy.role_permission: refuses a change after which an organization has no
active member any more whose role permits everything, or none whose membership has no end where there was one (guardrail
last_admin). It locks the organization, so that two admins who remove each other take turns. Rows that replication
brings pass. Raises 55000 (last_admin).';

CREATE TRIGGER keep_admin AFTER UPDATE OR DELETE ON tenancy.membership
    FOR EACH ROW WHEN (old.status = 'active') EXECUTE FUNCTION tenancy.keep_admin();
CREATE TRIGGER keep_admin AFTER INSERT OR UPDATE OR DELETE ON tenancy.role_permission
    FOR EACH ROW EXECUTE FUNCTION tenancy.keep_admin();
ALTER TABLE tenancy.membership ENABLE ALWAYS TRIGGER keep_admin;
ALTER TABLE tenancy.role_permission ENABLE ALWAYS TRIGGER keep_admin;
COMMENT ON TRIGGER keep_admin ON tenancy.membership IS
'Keeps the last admin of an organization, and revokes grants of break-glass of whoever is no active member any more.';
COMMENT ON TRIGGER keep_admin ON tenancy.role_permission IS 'Keeps the last admin of each organization.';

CREATE FUNCTION tenancy.add_member(
    subject text, role text, issuer text DEFAULT NULL, valid_until timestamptz DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_add_member_wrapper';
COMMENT ON FUNCTION tenancy.add_member(text, text, text, timestamptz) IS
'Makes a subject a member of the context''s organization. Needs the permission member:create, and everything that the
role permits: nobody gives more than they hold, by the sign-in of the transaction and by what is committed now.

- subject: The "sub" claim of the member''s tokens, 1 to 1000 bytes.
- role: A role of every organization or one of its own.
- issuer: The issuer of the member''s tokens. By default that of the caller.
- valid_until: When the membership ends; NULL or infinity for no end.

The membership counts from the next authentication on. Raises 42501 without the permission or (more_than_held) for a
role that permits more than the caller holds, 28000 without a context, 42704 for an unknown role or issuer, 23505
(member_exists) for a member, 22023 and 22004 for an argument that is not allowed, 40001 after a change by another
session, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.change_member(
    subject text, role text DEFAULT NULL, status text DEFAULT NULL, valid_until timestamptz DEFAULT NULL,
    issuer text DEFAULT NULL, reason text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_change_member_wrapper';
COMMENT ON FUNCTION tenancy.change_member(text, text, text, timestamptz, text, text) IS
'Changes a membership of the context''s organization. Needs the permission member:update; whoever gives another role, a
later end or access again needs everything that the role permits.

- subject, issuer: The member, as in tenancy.add_member.
- role: Another role; NULL leaves it.
- status: active or suspended; NULL leaves it. active lets a member in again who has not signed in for a long time
  (guardrail dormant_member).
- valid_until: Another end, infinity for none; NULL leaves it.
- reason: Why, at most 2000 bytes. The event of the change has it.

The change counts from the next authentication on. A call that changes nothing does nothing. Raises 42501 without the
permission or (more_than_held), also for a later end of one''s own, 55000 (last_admin) if no active member were left who
may do everything, 28000 without a context, 42704 for an unknown member or role, 22023 and 22004 for an argument that is
not allowed, 40001 after a change by another session, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.drop_member(subject text, reason text, issuer text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_drop_member_wrapper';
COMMENT ON FUNCTION tenancy.drop_member(text, text, text) IS
'Ends a membership of the context''s organization. Needs the permission member:delete.

- subject, issuer: The member, as in tenancy.add_member.
- reason: Why, 1 to 2000 bytes. The event has it.

It counts from the next authentication on. Raises 42501 without the permission, 55000 (last_admin) if no active member
were left who may do everything, 28000 without a context, 42704 for an unknown member, 22023 and 22004 for an argument
that is not allowed, 40001 after a change by another session, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.effective_permissions(subject text DEFAULT NULL, issuer text DEFAULT NULL)
    RETURNS TABLE (domain text, action text, effect text, source text)
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_effective_permissions_wrapper';
COMMENT ON FUNCTION tenancy.effective_permissions(text, text) IS
'Lists what a member of the context''s organization may do. Without arguments that is the caller, as the transaction has
signed in; somebody else needs the permission member:read.

- subject, issuer: The member, as in tenancy.add_member.
- domain, action: Each rule of the member''s role, with * for every domain or every action.
- effect: allow or deny. What is denied is not permitted, whatever other rows allow.
- source: The role that has the rule, or "denied by role" with its name for a rule of which others deny everything.

No row for a member who is suspended or whose membership has ended. Raises 42501 without the permission, 28000 without a
context, 42704 for an unknown member.';

CREATE FUNCTION tenancy.define_role(name text, permissions text[], description text DEFAULT NULL) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_define_role_wrapper';
COMMENT ON FUNCTION tenancy.define_role(text, text[], text) IS
'Makes a role of the context''s organization, or gives one other permissions: tenancy.define_role(''accountant'',
''{invoice:*, !invoice:delete}''). Needs the permission role:create or role:update, and everything that the role is to
permit.

- name: 1 to 100 bytes, which no role of every organization has.
- permissions: At most 1024 of domain:action, with * for every domain or every action and a leading ! for one that is
  denied. A denial wins over every other permission. They take the place of those that the role had.
- description: For readers; NULL leaves it.

Members of the role have the permissions from the next authentication on. Raises 42501 without the permission or
(more_than_held), 55000 (last_admin) if no active member were left who may do everything, 28000 without a context, 23505
(role_exists) for the name of a role of every organization, 22023 and 22004 for an argument that is not allowed, 40001
after a change by another session, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.drop_role(name text) RETURNS void
    LANGUAGE c VOLATILE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_drop_role_wrapper';
COMMENT ON FUNCTION tenancy.drop_role(text) IS
'Drops a role of the context''s organization. Needs the permission role:delete. Raises 42501 without it, 55000
(role_in_use) while members have the role, 28000 without a context, 42704 for a role that the organization does not have
of its own, 22023 and 22004 for an argument that is not allowed, 25006 in a read-only transaction or on a standby.';

CREATE FUNCTION tenancy.allowed_actions(domain text) RETURNS text[]
    LANGUAGE c STABLE PARALLEL UNSAFE AS 'MODULE_PATHNAME', 'tenancy_allowed_actions_wrapper';
COMMENT ON FUNCTION tenancy.allowed_actions(text) IS
'Returns the actions that the role of the context may do in a domain, sorted: for an application that shows or hides
buttons. It looks at read, create, update and delete, at the actions of protected tables of the domain, and at those
that the role''s permissions name. Raises 28000 without a context, 22004 for a NULL domain.';
