//! All operating controls against one model, on a server with a clock that the test sets: three connections, two
//! organizations, six persons, random calls in transactions of every isolation level, with savepoints and rollbacks.
//!
//! Whoever changes an organization holds it until the end of the transaction, so the model of a transaction is what is
//! committed with what it has done itself. A call that has to wait for another transaction is made while that one ends.

mod action_types;
mod call;
mod exceptions;
mod grants;
mod guardrails;
mod members;
mod organization;
mod reviews;
mod script;

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use self::call::{Call, SUBJECTS};
use self::grants::GrantCall;
use self::guardrails::GuardrailCall;
use self::organization::{Admins, Caller, Member, NO_END, NO_MEMBER, NOT_PERMITTED, Organization, STORED, VIOLATIONS};
use self::script::{SUPERUSER, Script};
use crate::common::*;
use crate::rotation_model::{Random, with_a_clock};
use futures_util::future::{Either, select};
use pg_tenancy_core::guardrail::State;
use tokio_postgres::{Client, Statement};
use uuid::Uuid;

/// How many calls the model test makes, and after how many of them the chain is verified.
const STEPS: u32 = 20_000;
const VERIFIED: u32 = 5_000;
const SECOND: i64 = 1_000_000;
/// Where the clock of the test begins, in the future of any server: a seed makes the same run each day.
const START: i64 = 2_000_000_000 * SECOND;
const TEN_YEARS: i64 = 10 * 365 * 86_400;

const LEVELS: [&str; 3] = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"];
const PLACES: [Uuid; 2] = [ACME, GLOBEX];

/// A transaction that is open.
struct Transaction {
    place: usize,
    level: &'static str,
    caller: Caller,
    /// How often the organization had changed when the transaction began.
    began_at: u64,
    /// What the transaction has made of the organization, if it holds it.
    work: Option<Organization>,
    /// The same for each savepoint, and who called then.
    savepoints: Vec<(Option<Organization>, Caller)>,
}

impl Transaction {
    fn holds(&self) -> bool {
        self.work.is_some() || self.savepoints.iter().any(|(work, _)| work.is_some())
    }

    /// Whether a grant under which it works is over, by what is committed.
    fn elevation_is_over(&self, committed: &Organization, now: i64) -> bool {
        let seen = self.work.as_ref().unwrap_or(committed);
        self.caller.elevations.iter().any(|(id, _)| !grants::in_force(seen, id, now))
    }
}

/// An organization as it is committed.
#[derive(Default)]
struct Committed {
    is: Organization,
    changes: u64,
}

struct Model {
    random: Random,
    script: Script,
    now: i64,
    places: [Committed; 2],
    clients: Vec<Client>,
    /// What reads an organization.
    stored: Statement,
    /// The processes of the connections.
    pids: Vec<i64>,
    open: [Option<Transaction>; 3],
    tokens: BTreeMap<&'static str, String>,
    /// How often each function did something, and how often it was refused.
    done: BTreeMap<String, [u32; 2]>,
    waited: u32,
    /// How many calls were made under a grant, and how many of them were refused because it had ended.
    elevated: [u32; 2],
}

impl Model {
    /// Says something to the server; the first value of the last result.
    async fn say(&mut self, connection: usize, sql: &str) -> Result<String, Refusal> {
        self.script.says(connection, sql);
        let said = try_rows(&self.clients[connection], sql).await.map(last_value);
        self.script.answered(&said);
        said
    }

    async fn run(&mut self, connection: usize, sql: &str) {
        let said = self.say(connection, sql).await;
        assert!(said.is_ok(), "{sql}: {said:?}");
    }

    fn clock(&self) -> String {
        format!("SET tenancy.test_clock = '{}'", self.now)
    }

    /// Which connection holds the organization.
    fn holder(&self, place: usize) -> Option<usize> {
        let holds = |open: &Option<Transaction>| open.as_ref().is_some_and(|open| open.place == place && open.holds());
        self.open.iter().position(holds)
    }

    /// Who signs in: most often a member, and often one who has a grant to use.
    fn somebody(&mut self, place: usize) -> &'static str {
        let is = &self.places[place].is;
        let usable = is.grants.values().find(|granted| granted.can_be_used(self.now));
        let members: Vec<&str> = is.members.keys().copied().collect();
        match (self.random.below(10), usable) {
            _ if members.is_empty() => self.random.pick(&SUBJECTS),
            (0, _) => self.random.pick(&SUBJECTS),
            (1..6, Some(granted)) => granted.beneficiary(),
            _ => self.random.pick(&members),
        }
    }

    async fn begin(&mut self, connection: usize) {
        let place = self.random.below(2) as usize;
        let subject = self.somebody(place);
        let level = self.random.pick(&LEVELS);
        self.run(connection, &format!("BEGIN ISOLATION LEVEL {level}; {}", self.clock())).await;
        let sql = |token: &str| format!("SELECT tenancy.authenticate('{token}', '{}')", PLACES[place]);
        self.script.says(connection, &sql(&script::token_of(subject)));
        let said = try_rows(&self.clients[connection], &sql(&self.tokens[subject])).await.map(last_value);
        self.script.answered(&said);
        let committed = &self.places[place];
        match committed.is.held(subject) {
            Some(signed_in) => {
                assert!(said.is_ok(), "{subject} could sign in: {said:?}");
                let caller = Caller { subject, signed_in, elevations: Vec::new() };
                let (began_at, savepoints) = (committed.changes, Vec::new());
                self.open[connection] = Some(Transaction { place, level, caller, began_at, work: None, savepoints });
            }
            None => {
                let refusal = said.unwrap_err();
                assert_eq!(refusal.sqlstate, NO_MEMBER, "{subject}: {refusal:?}");
                self.run(connection, "ROLLBACK").await;
            }
        }
    }

    async fn roll_back(&mut self, connection: usize) {
        self.run(connection, "ROLLBACK").await;
        self.open[connection] = None;
    }

    /// Ends the transaction; what it did is then what is stored.
    async fn commit(&mut self, connection: usize, superuser: &Client) {
        let place = self.open[connection].as_ref().unwrap().place;
        let said = self.say(connection, "COMMIT").await;
        self.committed(connection, said);
        self.compare(superuser, place).await;
    }

    fn committed(&mut self, connection: usize, said: Result<String, Refusal>) {
        let open = self.open[connection].take().unwrap();
        match said {
            Ok(_) => {
                if let Some(work) = open.work {
                    self.places[open.place].is = work;
                    self.places[open.place].is.forget();
                    self.places[open.place].changes += 1;
                }
            }
            Err(refusal) => assert!(refusal.sqlstate == "40001" && open.level == "SERIALIZABLE", "{refusal:?}"),
        }
    }

    async fn compare(&self, superuser: &Client, place: usize) {
        let (id, committed) = (PLACES[place], &self.places[place]);
        let stored: String = superuser.query_one(&self.stored, &[&id]).await.unwrap().get(0);
        assert_eq!(stored, committed.is.text(), "what is stored of {id}");
        let provided = committed.is.admins() == Admins::Lasting;
        assert!(provided || id == GLOBEX, "{id} has no admin without an end");
    }

    async fn compare_both(&self, superuser: &Client) {
        for place in 0..2 {
            self.compare(superuser, place).await;
        }
    }

    async fn savepoint(&mut self, connection: usize) {
        let open = self.open[connection].as_mut().unwrap();
        open.savepoints.push((open.work.clone(), open.caller.clone()));
        let name = open.savepoints.len();
        self.run(connection, &format!("SAVEPOINT s{name}")).await;
    }

    /// Takes back what was done since the last savepoint, or since the beginning.
    async fn take_back(&mut self, connection: usize) {
        let open = self.open[connection].as_mut().unwrap();
        let name = open.savepoints.len();
        match open.savepoints.pop() {
            Some((work, caller)) => {
                (open.work, open.caller) = (work, caller);
                self.run(connection, &format!("ROLLBACK TO s{name}; RELEASE s{name}")).await;
            }
            None => self.roll_back(connection).await,
        }
    }

    async fn call(&mut self, connection: usize, superuser: &Client) {
        let open = self.open[connection].as_ref().unwrap();
        let (place, committed) = (open.place, &self.places[open.place].is);
        let seen = open.work.as_ref().unwrap_or(committed);
        let call = Call::some(&mut self.random, seen, &open.caller, self.now);
        let activates = matches!(call, Call::Grant(_, GrantCall::Elevate));
        if activates && let Some(holder) = self.holder(place) {
            // The process that records an activation would wait for that transaction.
            self.commit(holder, superuser).await;
            if holder == connection {
                return;
            }
        }
        let holder = self.holder(place);
        if matches!(call, Call::Grant(_, GrantCall::SignOff)) {
            // A grant is signed off once all that was done under it is sealed.
            self.script.says(SUPERUSER, "SELECT tenancy.seal()");
            seal_all(superuser).await;
        }
        let holder = holder.filter(|holder| *holder != connection && !call.reads());
        let sql = format!("{}; {}", self.clock(), call.sql());
        let said = match holder {
            None => self.say(connection, &sql).await,
            Some(_) if !call.takes_turns() => return,
            Some(holder) => self.wait(connection, holder, &sql, superuser).await,
        };
        if activates && said.is_ok() {
            self.script.answers_otherwise_each_time();
        }
        self.judge(connection, &call, said).await;
        if holder.is_some() || activates {
            self.compare(superuser, place).await;
        }
    }

    /// Makes a call that has to wait for the holder of the organization, which then ends. What is refused before it
    /// comes to that is refused by what is committed.
    async fn wait(
        &mut self,
        connection: usize,
        holder: usize,
        sql: &str,
        superuser: &Client,
    ) -> Result<String, Refusal> {
        let end = if self.random.one_in(4) { "ROLLBACK" } else { "COMMIT" };
        self.script.says(connection, sql);
        let waits = format!("SELECT wait_event_type FROM pg_stat_activity WHERE pid = {}", self.pids[connection]);
        let mut call = Box::pin(try_rows(&self.clients[connection], sql));
        loop {
            match select(call, Box::pin(value(superuser, &waits))).await {
                Either::Left((said, _)) => {
                    assert!(said.is_err(), "{sql} did not wait for connection {holder}");
                    let said = said.map(last_value);
                    self.script.answered(&said);
                    return said;
                }
                Either::Right((waiting, pending)) => {
                    call = pending;
                    if waiting == "Lock" {
                        break;
                    }
                }
            }
        }
        self.waited += 1;
        self.script.waits_for(holder, end);
        let ended = try_rows(&self.clients[holder], end).await.map(|_| String::new());
        self.script.ended(&ended);
        let said = call.await.map(last_value);
        self.script.answered(&said);
        match end {
            "COMMIT" => self.committed(holder, ended),
            _ => self.open[holder] = None,
        }
        said
    }

    /// Compares the answer with that of the model, and keeps what the call did.
    async fn judge(&mut self, connection: usize, call: &Call, said: Result<String, Refusal>) {
        let open = self.open[connection].as_mut().unwrap();
        let committed = &mut self.places[open.place];
        let mut work = open.work.clone().unwrap_or_else(|| committed.is.clone());
        let over = open.elevation_is_over(&committed.is, self.now);
        self.elevated[usize::from(over)] += u32::from(!open.caller.elevations.is_empty());
        let expected = match over {
            true => Err(NOT_PERMITTED),
            false => call.make(&mut work, &open.caller, self.now, said.as_deref().ok()),
        };
        let sql = call.sql();
        let name = sql.split_once("tenancy.").unwrap().1.split('(').next().unwrap().to_owned();
        self.done.entry(name).or_default()[usize::from(said.is_err())] += 1;
        match said {
            Ok(answer) => {
                assert_eq!(Ok(answer.as_str()), expected.as_deref(), "{call:?} by {:?}", open.caller);
                if let Call::Grant(id, GrantCall::Elevate) = call {
                    // Another process has committed it.
                    open.caller.elevations.push((id.clone(), grants::adds(&work, id)));
                    if work.events != committed.is.events {
                        committed.is = work;
                        committed.changes += 1;
                    }
                } else if !call.reads() {
                    open.work = Some(work);
                }
            }
            Err(refusal) => {
                // What others have committed since its snapshot is in the way of a transaction that looks back.
                let looks_back = open.level != "READ COMMITTED" && committed.changes != open.began_at;
                let serialized = open.level == "SERIALIZABLE" && refusal.sqlstate == "40001";
                let unsealed = matches!(call, Call::Grant(_, GrantCall::SignOff)) && refusal.message.contains("sealed");
                // Whoever waits has looked for the role before, so that all lock roles before the organization.
                let made_meanwhile = matches!(call, Call::DefineRole { .. }) && refusal.message.contains("same moment");
                assert!(
                    looks_back
                        || serialized
                        || unsealed
                        || made_meanwhile
                        || expected.as_ref().err() == Some(&&*refusal.sqlstate),
                    "{call:?} by {:?}: {refusal:?} instead of {expected:?}",
                    open.caller
                );
                self.take_back(connection).await;
            }
        }
    }

    /// Has what time has ended recorded, where nobody is in the way.
    async fn settle(&mut self, superuser: &Client) {
        if (0..2).any(|place| self.holder(place).is_some()) {
            return;
        }
        let sql = format!("{}; SELECT tenancy.settle_due(); RESET tenancy.test_clock", self.clock());
        self.script.says(SUPERUSER, &sql);
        run(superuser, &sql).await;
        for committed in &mut self.places {
            let before = committed.is.events.clone();
            committed.is.settle(self.now);
            committed.changes += u64::from(committed.is.events != before);
        }
        self.compare_both(superuser).await;
        self.administer(superuser).await;
    }

    /// Whoever administers the database loosens guardrails of Globex, and gives it an admin where it has none left.
    async fn administer(&mut self, superuser: &Client) {
        let mut statements = Vec::new();
        let globex = &mut self.places[1];
        if globex.is.admins() != Admins::Lasting {
            statements.push(format!("SELECT tenancy.set_membership('{GLOBEX}', 'alice', 'admin')"));
            members::appoint(&mut globex.is, "alice", self.now);
        }
        for (name, _) in guardrails::ALL {
            if self.random.one_in(3) {
                let clear = GuardrailCall::Clear(name);
                statements.push(format!("SELECT tenancy.{}", clear.sql(&format!("'{GLOBEX}'"))));
                clear.make(&mut globex.is);
            }
        }
        globex.changes += 1;
        for sql in statements {
            let sql = format!("{}; {sql}; RESET tenancy.test_clock", self.clock());
            self.script.says(SUPERUSER, &sql);
            run(superuser, &sql).await;
        }
        self.compare_both(superuser).await;
    }
}

/// The first value of the last row, or nothing.
fn last_value(rows: Vec<Vec<Option<String>>>) -> String {
    rows.into_iter().next_back().and_then(|row| row.into_iter().next().flatten()).unwrap_or_default()
}

/// The organizations as they begin, and the statements that make them so.
fn prepared() -> ([Organization; 2], Vec<String>) {
    let mut statements = vec![
        Organization::create_roles(),
        // Nobody seals here but the test, and so nobody records what a rollback takes back.
        "SELECT tenancy.set_guardrail('unrecorded_break_glass', 'off', 'test')".to_owned(),
        format!("SELECT tenancy.set_break_glass_policy('{}', 'test')", grants::POLICY),
        format!("GRANT SET ON PARAMETER tenancy.test_clock TO {APPLICATION}"),
    ];
    let kind =
        |(name, settings)| format!("SELECT tenancy.define_exception_kind('{name}', 'test', '{settings}', 'test')");
    statements.extend(exceptions::KINDS.map(kind));
    statements.extend(action_types::TYPES.map(|name| format!("SELECT tenancy.add_action_type('{name}', 'test')")));
    statements.push(format!("SELECT tenancy.remove_membership('{ACME}', 'victor')"));
    let mut places = [Organization::new(), Organization::new()];
    for (number, of) in places.iter_mut().enumerate() {
        let place = PLACES[number];
        for (subject, role) in SUBJECTS.into_iter().zip(["admin", "admin", "admin", "keeper", "approver", "oncall"]) {
            statements.push(format!("SELECT tenancy.set_membership('{place}', '{subject}', '{role}')"));
            let member = Member { role: role.to_owned(), active: true, until: NO_END, since: 0 };
            of.members.insert(subject, member);
        }
        of.approvals = number + 1;
        let approvals = format!(r#"{{"approvals": {}}}"#, of.approvals);
        statements.push(format!("SELECT tenancy.set_break_glass_policy('{approvals}', 'test', '{place}')"));
    }
    for (name, state) in guardrails::ALL {
        statements.push(format!("SELECT tenancy.set_guardrail('{name}', '{}', 'test')", state.name()));
        // Acme is as every organization is by default, but for what reviews leave.
        if name != "overdue_review" && name != "unreviewed_exception" {
            let enforce = GuardrailCall::Set(name, State::Enforce);
            statements.push(format!("SELECT tenancy.{}", enforce.sql(&format!("'{ACME}'"))));
            enforce.make(&mut places[0]);
        }
    }
    (places, statements)
}

/// How many events there are of each domain and operation that the model counts.
async fn events(superuser: &Client, place: Uuid) -> BTreeMap<String, u64> {
    let sql = format!(
        "SELECT domain || ' ' || operation, count(*) FROM tenancy.event
          WHERE organization = '{place}' AND result = 'success'
            AND (domain IN ('membership', 'role') OR domain = 'guardrail' AND operation IN ('insert', 'update')
                 OR operation ~ '^(break_glass|exception|review|action)_')
          GROUP BY 1"
    );
    let counted = rows(superuser, &sql).await;
    let pair = |row: Vec<Option<String>>| (row[0].clone().unwrap(), row[1].as_ref().unwrap().parse().unwrap());
    counted.into_iter().map(pair).collect()
}

impl Model {
    /// A model of organizations that have been prepared.
    async fn new(database: &Database, superuser: &Client, seed: u64) -> Self {
        let (mut places, statements) = prepared();
        for sql in &statements {
            run(superuser, sql).await;
        }
        for (place, of) in PLACES.into_iter().zip(&mut places) {
            of.events = events(superuser, place).await;
        }
        let token = |subject| (subject, database.issuer.token_until(subject, TEN_YEARS));
        let tokens = SUBJECTS.map(token).into();
        let mut model = Model {
            random: Random(seed),
            script: Script::new(&database.issuer, &statements, &tokens),
            now: START,
            places: places.map(|is| Committed { is, changes: 0 }),
            clients: Vec::new(),
            stored: superuser.prepare(STORED).await.unwrap(),
            pids: Vec::new(),
            open: [None, None, None],
            tokens,
            done: BTreeMap::new(),
            waited: 0,
            elevated: [0, 0],
        };
        for _ in 0..3 {
            model.clients.push(database.application().await);
            let client = model.clients.last().unwrap();
            model.pids.push(count(client, "SET lock_timeout = '20s'; SELECT pg_backend_pid()").await);
        }
        model
    }

    async fn step(&mut self, superuser: &Client) {
        self.now += self.random.pick(&[0, 0, 1, 1, 5, 20, 60]) * SECOND;
        let elevated = self.open.iter().flatten().any(|open| !open.caller.elevations.is_empty());
        if self.random.one_in(if elevated { 20 } else { 80 }) {
            self.now += self.random.pick(&[1800, 1800, 3600, 86_400, 4 * 86_400]) * SECOND;
        }
        if self.random.one_in(100) {
            self.settle(superuser).await;
        }
        let connection = self.random.below(3) as usize;
        if self.open[connection].is_none() {
            return self.begin(connection).await;
        }
        match self.random.below(20) {
            0..2 => self.commit(connection, superuser).await,
            2 => self.roll_back(connection).await,
            3..5 => self.savepoint(connection).await,
            5 => self.take_back(connection).await,
            _ => self.call(connection, superuser).await,
        }
    }

    /// Ends all transactions, and looks at what cannot be seen after each.
    async fn verify(&mut self, superuser: &Client) {
        for connection in 0..3 {
            if self.open[connection].is_some() {
                self.commit(connection, superuser).await;
            }
        }
        self.compare_both(superuser).await;
        for (place, committed) in PLACES.into_iter().zip(&self.places) {
            assert_eq!(events(superuser, place).await, committed.is.events, "the events of {place}");
        }
        assert_eq!(column(superuser, VIOLATIONS).await, [""; 0]);
        seal_all(superuser).await;
        assert_audit_is_whole(superuser).await;
    }
}

#[test]
fn whatever_several_persons_call_at_once_what_is_committed_is_what_the_rules_say() {
    let seed = std::env::var("CONTROLS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(|| {
        u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() & 0xffff_ffff).unwrap()
    });
    let steps = std::env::var("CONTROLS_STEPS").ok().and_then(|steps| steps.parse().ok()).unwrap_or(STEPS);
    println!("again with CONTROLS_SEED={seed}");
    with_a_clock("controls", async |database, superuser| {
        let mut model = Model::new(database, superuser, seed).await;
        for step in 1..=steps {
            model.step(superuser).await;
            if step % VERIFIED == 0 || step == steps {
                model.verify(superuser).await;
            }
        }
        println!("done and refused: {:?}; {} waited; under grants: {:?}", model.done, model.waited, model.elevated);
        let ends = model.places.each_ref().map(|place| place.is.reviews_over());
        println!("reviews and their items: {ends:?}");
        for end in ["closed", "cancelled", "kept", "applied", "failed", "stale", "gone", "undecided"] {
            assert!(ends.iter().any(|ends| ends.contains_key(end)), "no review or item came to be {end}");
        }
        let never = |done: &&[u32; 2]| done[0] == 0;
        assert!(
            model.waited > 0 && !model.elevated.contains(&0) && model.done.values().filter(never).count() < 2,
            "{:?}",
            model.done
        );
    });
}

#[test]
fn the_script_of_a_run_is_answered_in_psql_as_the_run_was() {
    with_a_clock("script", async |database, superuser| {
        let mut model = Model::new(database, superuser, 1).await;
        while model.waited < 5 || model.elevated[0] == 0 {
            model.step(superuser).await;
        }
        model.verify(superuser).await;
        let script = model.script.text();
        let said = script.matches("SELECT pg_temp.say(").count() + script.matches("SELECT pg_temp.wait(").count();
        let again = |script: &str| {
            let mut psql = database.program("psql");
            let config = database.config();
            let [tokio_postgres::config::Host::Unix(socket), ..] = config.get_hosts() else {
                panic!("the server has a socket")
            };
            psql.env("PGHOST", socket).env("PGPORT", config.get_ports()[0].to_string()).env("PGUSER", "postgres");
            run_script(psql, script.as_bytes())
        };
        assert_eq!(again(&script), "", "what differs is a WARNING");
        assert!(said > 50, "{said} steps");
        let other =
            script.replace(script::DATABASE, "controls_otherwise").replacen("$say$, 'refused ", "$say$, 'not ", 1);
        let told = again(&other);
        assert_eq!(told.matches("WARNING").count(), 1, "{told}");
    });
}
