//! What opens was sealed, and seals to the same bytes again; a ring of keys that is read holds no more than it may.
//!
//! An input is what to do with it in one byte, then the plaintext, the envelope or the ring.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pg_tenancy_core::secrets::envelope::{SecretPlace, data_key_of, open, seal_with};
use pg_tenancy_core::secrets::key::{DataKey, SecretKey};
use pg_tenancy_core::secrets::key_ring::{KeyRing, MAX_KEYS};
use pg_tenancy_fuzz::sealed_by;

fuzz_target!(|data: &[u8]| {
    let Some((what, body)) = data.split_first() else { return };
    let (key, place) = sealed_by();
    match what % 3 {
        0 => {
            let Some(sealed) = seal_with(&key, &place, body, &[7; 32]) else { return };
            assert_eq!(open(&key, &place, &sealed).map(|opened| opened.value().to_vec()), Ok(body.to_vec()));
            assert!(open(&key, &SecretPlace { version: 2, ..place }, &sealed).is_err());
            assert!(open(&DataKey { key: SecretKey::new(&[8; 32]), ..key }, &place, &sealed).is_err());
        }
        1 => {
            let Ok(opened) = open(&key, &place, body) else { return };
            assert_eq!(data_key_of(body), Some(key.id));
            let salt = body[18..50].try_into().expect("an envelope has a salt");
            assert_eq!(seal_with(&key, &place, opened.value(), salt).as_deref(), Some(body));
        }
        _ => {
            let Ok(ring) = KeyRing::parse(body) else { return };
            assert!((1..=MAX_KEYS).contains(&ring.ids().count()));
        }
    }
});
