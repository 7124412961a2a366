//! The ordinary settings: what a DBA writes into postgresql.conf.

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};
use std::ffi::{CStr, CString};
use std::time::Duration;

type Text = GucSetting<Option<CString>>;
type Integer = GucSetting<i32>;

static JWKS_DIRECTORY: Text = Text::new(Some(c""));
static OVERRIDE_REASON: Text = Text::new(Some(c""));
static COMMITMENT_KEY_FILE: Text = Text::new(Some(c""));
static SIGNING_KEY_FILE: Text = Text::new(Some(c""));
static SIGNING_KEY_COMMAND: Text = Text::new(Some(c""));
static CHECKPOINT_ORIGIN: Text = Text::new(Some(c""));
static CHECKPOINT_DIRECTORY: Text = Text::new(Some(c""));
static SECRET_KEY_FILE: Text = Text::new(Some(c""));
static SECRET_KEY_COMMAND: Text = Text::new(Some(c""));
static KEY_WRAP_COMMAND: Text = Text::new(Some(c""));
#[cfg(feature = "test_clock")]
static TEST_CLOCK: Text = Text::new(Some(c""));

/// In bytes.
static AUDIT_VALUE_LIMIT: Integer = Integer::new(8192);
/// In months.
static AUDIT_RETENTION: Integer = Integer::new(12);
/// In events.
static SEAL_BATCH: Integer = Integer::new(100_000);
/// In events.
static MAX_UNSEALED_EVENTS: Integer = Integer::new(250_000);
/// In milliseconds.
static SEAL_INTERVAL: Integer = Integer::new(1000);
/// In tokens.
static TOKEN_CACHE_SIZE: Integer = Integer::new(512);
/// In issuers.
static ISSUER_CACHE_SIZE: Integer = Integer::new(256);
/// In milliseconds.
static CHECKPOINT_INTERVAL: Integer = Integer::new(60_000);
/// In milliseconds.
static SETTLE_INTERVAL: Integer = Integer::new(600_000);
/// In minutes.
static DORMANT_AFTER: Integer = Integer::new(90 * 24 * 60);
/// In keys.
static KEY_CACHE_SIZE: Integer = Integer::new(64);
/// In exceptions.
static EXCEPTION_CACHE: Integer = Integer::new(100_000);
/// In milliseconds.
static KEY_CACHE_LIFETIME: Integer = Integer::new(300_000);

/// A setting that holds a text: name, what it is, more about it, where it is kept, who may set it, flags.
type TextSetting = (&'static CStr, &'static CStr, &'static CStr, &'static Text, GucContext, GucFlags);

// GucContext::Sighup, and not Suset: whoever could choose a folder or a command in a session would choose the keys,
// and what the server's user reads, runs and writes.
const TEXTS: [TextSetting; 10] = [
    (
        c"tenancy.jwks_directory",
        c"The folder with the key files of issuers, as an absolute path.",
        c"tenancy.set_issuer(..., jwks_file => ...) names files in it.",
        &JWKS_DIRECTORY,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    ),
    (
        c"tenancy.override_reason",
        c"Why this session passes the guardrails.",
        c"Empty: it does not. Whoever uses it leaves an audit event with the reason.",
        &OVERRIDE_REASON,
        GucContext::Userset,
        GucFlags::empty(),
    ),
    (
        // Suset: databases have keys of their own, and whoever could choose the key could try values.
        c"tenancy.commitment_key_file",
        c"The file with the key of the commitments to values of secret columns, as an absolute path.",
        c"The base64 of 32 random bytes. Without it no secret column can be written.",
        &COMMITMENT_KEY_FILE,
        GucContext::Suset,
        GucFlags::SUPERUSER_ONLY,
    ),
    (
        c"tenancy.signing_key_file",
        c"The file with the keys that checkpoints are signed with, as an absolute path.",
        c"Ed25519 keys one after another, as PRIVATE+KEY+... lines or PKCS #8 in PEM; every one of them signs.",
        &SIGNING_KEY_FILE,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    ),
    (
        c"tenancy.signing_key_command",
        c"A shell command that prints the keys that checkpoints are signed with.",
        c"Run by the server's user for each checkpoint, for 10 seconds at most.",
        &SIGNING_KEY_COMMAND,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    ),
    (
        c"tenancy.checkpoint_origin",
        c"Name of this database in its checkpoints, such as audit.example.com/production.",
        c"Empty: the name of the first key. It is also the name of keys in PEM, which have none of their own.",
        &CHECKPOINT_ORIGIN,
        GucContext::Sighup,
        GucFlags::empty(),
    ),
    (
        c"tenancy.checkpoint_directory",
        c"The folder that checkpoints are written to as files, as an absolute path.",
        c"Empty: checkpoints are published by NOTIFY alone.",
        &CHECKPOINT_DIRECTORY,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    ),
    (
        c"tenancy.secret_key_file",
        c"The file with the key-encryption keys of the provider ring, as an absolute path.",
        c"Lines of an id and the base64 of 32 random bytes. Read again when it changes.",
        &SECRET_KEY_FILE,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    ),
    (
        c"tenancy.secret_key_command",
        c"A shell command that prints the key-encryption keys of the provider ring.",
        c"Run by the server's user, for 10 seconds at most. Its output is kept for tenancy.key_cache_lifetime.",
        &SECRET_KEY_COMMAND,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    ),
    (
        c"tenancy.key_wrap_command",
        c"A shell command that wraps and unwraps data keys for the provider command.",
        c"%o is wrap or unwrap, %k the id of the key. Run by the server's user, for 10 seconds at most.",
        &KEY_WRAP_COMMAND,
        GucContext::Sighup,
        GucFlags::SUPERUSER_ONLY,
    ),
];

/// A setting that holds a number from 0 or 1: as [`TextSetting`], with the range before who may set it.
type IntegerSetting = (&'static CStr, &'static CStr, &'static CStr, &'static Integer, [i32; 2], GucContext, GucFlags);

const INTEGERS: [IntegerSetting; 13] = [
    (
        // Suset: whoever could lower it would keep what they write out of the audit.
        c"tenancy.audit_value_limit",
        c"The longest value that an audit event holds; an event has the SHA-256 of a longer one.",
        c"In bytes of the value's text. 0: there is no limit.",
        &AUDIT_VALUE_LIMIT,
        [0, i32::MAX],
        GucContext::Suset,
        GucFlags::UNIT_BYTE,
    ),
    (
        c"tenancy.audit_retention",
        c"For how many months after its end a month of the audit must be kept.",
        c"tenancy.archive_audit refuses to detach a younger one.",
        &AUDIT_RETENTION,
        [0, 1200],
        GucContext::Sighup,
        GucFlags::empty(),
    ),
    (
        c"tenancy.seal_batch",
        c"How many events one block of the seal takes.",
        c"A block takes whole transactions, so it has more where one transaction has.",
        &SEAL_BATCH,
        [1, 10_000_000],
        GucContext::Sighup,
        GucFlags::empty(),
    ),
    (
        // Sighup: whoever could raise it would outrun the sealer, whoever could lower it would stop others.
        c"tenancy.max_unsealed_events",
        c"Above how many events that are committed and not sealed yet writers wait.",
        c"0: they never wait. It needs the background worker, which seals in the meantime.",
        &MAX_UNSEALED_EVENTS,
        [0, i32::MAX],
        GucContext::Sighup,
        GucFlags::empty(),
    ),
    (
        c"tenancy.seal_interval",
        c"How often the background worker seals what was committed.",
        c"0: never; tenancy.seal() is then called by somebody else. Without shared_preload_libraries there is no \
            worker.",
        &SEAL_INTERVAL,
        [0, 3_600_000],
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    ),
    (
        c"tenancy.checkpoint_interval",
        c"How long after a checkpoint the background worker makes the next one.",
        c"0: never; tenancy.checkpoint() is then called by somebody else. Without a signing key there is none either.",
        &CHECKPOINT_INTERVAL,
        [0, 86_400_000],
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    ),
    (
        c"tenancy.settle_interval",
        c"How often the background worker notes what time has changed.",
        c"0: never; tenancy.settle_due() is then called by somebody else. The worker also needs tenancy.seal_interval.",
        &SETTLE_INTERVAL,
        [0, 86_400_000],
        GucContext::Sighup,
        GucFlags::UNIT_MS,
    ),
    (
        // Sighup: it is the same for every sign-in.
        c"tenancy.dormant_after",
        c"How long after the last sign-in the guardrail dormant_member is about a member.",
        c"Sign-ins are recorded to the day.",
        &DORMANT_AFTER,
        [2 * 24 * 60, 10 * 366 * 24 * 60],
        GucContext::Sighup,
        GucFlags::UNIT_MIN,
    ),
    (
        // Suset: it is the server's memory.
        c"tenancy.token_cache_size",
        c"How many tokens each session remembers.",
        c"The least recently used one is forgotten first. A token of more than 2 kB counts for several.",
        &TOKEN_CACHE_SIZE,
        [0, 65_536],
        GucContext::Suset,
        GucFlags::empty(),
    ),
    (
        c"tenancy.issuer_cache_size",
        c"Of how many issuers each session remembers settings and keys.",
        c"The least recently used one is forgotten first. A key set of more than 16 kB counts for several.",
        &ISSUER_CACHE_SIZE,
        [0, 65_536],
        GucContext::Suset,
        GucFlags::empty(),
    ),
    (
        // Suset: it is the server's memory.
        c"tenancy.exception_cache",
        c"How many exceptions each session remembers.",
        c"An organization with more of them in force is asked by index. 0: none is remembered.",
        &EXCEPTION_CACHE,
        [0, 10_000_000],
        GucContext::Suset,
        GucFlags::empty(),
    ),
    (
        // Suset, as the lifetime: it is the server's memory, and where keys stand.
        c"tenancy.key_cache_size",
        c"How many unwrapped data keys each session keeps.",
        c"The least recently used one is forgotten first. 0: none is kept.",
        &KEY_CACHE_SIZE,
        [0, 4096],
        GucContext::Suset,
        GucFlags::empty(),
    ),
    (
        c"tenancy.key_cache_lifetime",
        c"How long each session keeps an unwrapped data key.",
        c"Also how long it keeps what tenancy.secret_key_command printed. 0: not at all.",
        &KEY_CACHE_LIFETIME,
        [0, 86_400_000],
        GucContext::Suset,
        GucFlags::UNIT_MS,
    ),
];

/// Defines the settings. Called once from `_PG_init`, before the prefix is reserved.
pub fn define() {
    for (name, short, long, setting, context, flags) in TEXTS {
        GucRegistry::define_string_guc(name, short, long, setting, context, flags);
    }
    for (name, short, long, setting, [least, most], context, flags) in INTEGERS {
        GucRegistry::define_int_guc(name, short, long, setting, least, most, context, flags);
    }
    #[cfg(feature = "test_clock")]
    GucRegistry::define_string_guc(
        c"tenancy.test_clock",
        c"The time of secrets in tests, in microseconds since 1970.",
        c"Empty: the time of the server.",
        &TEST_CLOCK,
        GucContext::Suset,
        GucFlags::empty(),
    );
}

/// `tenancy.test_clock`; `None` when it is not set to a time.
#[cfg(feature = "test_clock")]
pub fn test_clock() -> Option<i64> {
    text(&TEST_CLOCK)?.parse().ok()
}

/// `tenancy.signing_key_file`; `None` when it is not set.
pub fn signing_key_file() -> Option<String> {
    text(&SIGNING_KEY_FILE)
}

/// `tenancy.signing_key_command`; `None` when it is not set.
pub fn signing_key_command() -> Option<String> {
    text(&SIGNING_KEY_COMMAND)
}

/// `tenancy.checkpoint_origin`; `None` when it is not set.
pub fn checkpoint_origin() -> Option<String> {
    text(&CHECKPOINT_ORIGIN)
}

/// `tenancy.checkpoint_directory`; `None` when it is not set.
pub fn checkpoint_directory() -> Option<String> {
    text(&CHECKPOINT_DIRECTORY)
}

/// `tenancy.secret_key_file`; `None` when it is not set.
pub fn secret_key_file() -> Option<String> {
    text(&SECRET_KEY_FILE)
}

/// `tenancy.secret_key_command`; `None` when it is not set.
pub fn secret_key_command() -> Option<String> {
    text(&SECRET_KEY_COMMAND)
}

/// `tenancy.key_wrap_command`; `None` when it is not set.
pub fn key_wrap_command() -> Option<String> {
    text(&KEY_WRAP_COMMAND)
}

/// `tenancy.key_cache_size`.
pub fn key_cache_size() -> usize {
    size(&KEY_CACHE_SIZE)
}

/// `tenancy.exception_cache`.
pub fn exception_cache() -> usize {
    size(&EXCEPTION_CACHE)
}

/// `tenancy.key_cache_lifetime`, in microseconds.
pub fn key_cache_lifetime() -> i64 {
    i64::from(KEY_CACHE_LIFETIME.get()) * 1000
}

/// `tenancy.checkpoint_interval`; `None` where the worker makes no checkpoints.
pub fn checkpoint_interval() -> Option<Duration> {
    milliseconds(&CHECKPOINT_INTERVAL)
}

/// `tenancy.seal_interval`; `None` where nothing is to be sealed by the worker.
pub fn seal_interval() -> Option<Duration> {
    milliseconds(&SEAL_INTERVAL)
}

/// `tenancy.settle_interval`; `None` where the worker does not call `tenancy.settle_due()`.
pub fn settle_interval() -> Option<Duration> {
    milliseconds(&SETTLE_INTERVAL)
}

/// `tenancy.dormant_after`, in microseconds.
pub fn dormant_after() -> i64 {
    i64::from(DORMANT_AFTER.get()) * 60_000_000
}

/// `tenancy.seal_batch`.
pub fn seal_batch() -> i64 {
    SEAL_BATCH.get().into()
}

/// `tenancy.max_unsealed_events`; `None` where nobody waits.
pub fn max_unsealed_events() -> Option<i64> {
    let limit = MAX_UNSEALED_EVENTS.get();
    (limit > 0).then(|| limit.into())
}

/// `tenancy.token_cache_size`.
pub fn token_cache_size() -> usize {
    size(&TOKEN_CACHE_SIZE)
}

/// `tenancy.issuer_cache_size`.
pub fn issuer_cache_size() -> usize {
    size(&ISSUER_CACHE_SIZE)
}

/// `tenancy.audit_value_limit`, in bytes.
pub fn audit_value_limit() -> usize {
    match AUDIT_VALUE_LIMIT.get() {
        0 => usize::MAX,
        bytes => bytes.unsigned_abs() as usize,
    }
}

fn size(setting: &Integer) -> usize {
    setting.get().unsigned_abs() as usize
}

/// `tenancy.override_reason`; `None` when it is not set, or blank.
pub fn override_reason() -> Option<String> {
    text(&OVERRIDE_REASON).filter(|reason| !reason.trim().is_empty())
}

/// `tenancy.commitment_key_file`; `None` when it is not set.
pub fn commitment_key_file() -> Option<String> {
    text(&COMMITMENT_KEY_FILE)
}

/// `tenancy.jwks_directory`; `None` when it is not set.
pub fn jwks_directory() -> Option<String> {
    text(&JWKS_DIRECTORY)
}

/// A duration; `None` for 0.
fn milliseconds(setting: &Integer) -> Option<Duration> {
    let milliseconds = setting.get();
    (milliseconds > 0).then(|| Duration::from_millis(milliseconds.unsigned_abs().into()))
}

/// A text; `None` for the empty one.
fn text(setting: &Text) -> Option<String> {
    setting.get().and_then(|text| text.into_string().ok()).filter(|text| !text.is_empty())
}
