//! Seals a value to the key of an organization, before it is sent to `tenancy.put_secret(..., sealed => true)` and its
//! like. `make demo` uses it; clients for applications are in `examples/sealed_delivery`.
//!
//! ```text
//! seal_value ORGANIZATION NAME KEY_ID PUBLIC_KEY    seals standard input for the secret with this name
//! ```
//!
//! `KEY_ID` and `PUBLIC_KEY`, which is in hex, come from `tenancy.secret_recipient()`. Prints base64.

use base64::prelude::{BASE64_STANDARD, Engine as _};
use pg_tenancy_core::audit::format::hex;
use pg_tenancy_core::secrets::delivery::{self, Submission};
use std::error::Error;
use std::io::Read as _;
use uuid::Uuid;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [organization, name, key_id, public_key] = &arguments[..] else {
        return Err("usage: seal_value ORGANIZATION NAME KEY_ID PUBLIC_KEY".into());
    };
    let organization: Uuid = organization.parse()?;
    let key_id: Uuid = key_id.parse()?;
    let public_key = hex::decode(public_key).ok_or("the public key is not hex")?;
    let mut value = Vec::new();
    std::io::stdin().read_to_end(&mut value)?;
    let message = delivery::submit(&public_key, &Submission { organization, name }, &value);
    let message = message.ok_or("the public key is none of X25519")?;
    println!("{}", BASE64_STANDARD.encode([key_id.as_bytes(), &message[..]].concat()));
    Ok(())
}
