//! What libraries leave on the stack: blocks of a value, parts of a key.

use zeroize::zeroize_stack;

/// More than any computation here takes.
const BYTES: usize = 16 * 1024;

/// Computes something from keys or values, and overwrites the stack that this took.
///
/// What is returned should have secrets on the heap alone, because it passes over the stack itself.
pub fn wiped<T>(compute: impl FnOnce() -> T) -> T {
    let computed = apart(compute);
    zeroize_stack::<BYTES>();
    computed
}

/// In a frame of its own, below which the stack is overwritten.
#[inline(never)]
fn apart<T>(compute: impl FnOnce() -> T) -> T {
    compute()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use crate::secrets::delivery::{self, Delivery, Submission};
    use crate::secrets::envelope::{self, SecretPlace};
    use crate::secrets::key::{DataKey, KeyId, SecretKey};
    use std::fs::File;
    use std::os::unix::fs::FileExt as _;
    use uuid::Uuid;

    /// The stack of this thread, with what was left below.
    fn stack() -> Vec<u8> {
        let here = 0;
        let place = &raw const here as u64;
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let range = maps.lines().find_map(|line| {
            let (start, end) = line.split(' ').next()?.split_once('-')?;
            let range = u64::from_str_radix(start, 16).ok()?..u64::from_str_radix(end, 16).ok()?;
            range.contains(&place).then_some(range)
        });
        let range = range.unwrap();
        let mut stack = vec![0; (range.end - range.start) as usize];
        File::open("/proc/self/mem").unwrap().read_exact_at(&mut stack, range.start).unwrap();
        stack
    }

    fn assert_not_there(after: &str, secrets: &[&[u8]]) {
        let stack = stack();
        for secret in secrets {
            let pieces = secret.chunks_exact(16).filter(|piece| stack.windows(16).any(|window| window == *piece));
            assert_eq!(pieces.count(), 0, "pieces of 16 bytes after {after}");
        }
    }

    #[test]
    fn what_computes_with_values_and_keys_leaves_nothing_of_them_on_the_stack() {
        let mut random = vec![0; 2400];
        aws_lc_rs::rand::fill(&mut random).unwrap();
        let value = &random[..];
        let private_key = SecretKey::generate();
        let public_key = delivery::public_key(&private_key).unwrap();
        assert_not_there("public_key", &[private_key.bytes()]);
        let submission = Submission { organization: Uuid::nil(), name: "aws" };
        let message = delivery::submit(&public_key, &submission, value).unwrap();
        delivery::accept(&private_key, &submission, &message).unwrap();
        assert_not_there("accept", &[value, private_key.bytes()]);
        let delivery = Delivery { organization: Uuid::nil(), name: "aws", version: 1, purpose: "test" };
        delivery::deliver(&public_key, &delivery, value).unwrap();
        assert_not_there("deliver", &[value]);

        let key = DataKey { id: Uuid::nil(), organization: Uuid::nil(), key: SecretKey::generate() };
        let place = SecretPlace { secret: Uuid::nil(), name: "aws", version: 1, kind: "opaque", scope: "read_only" };
        let sealed = envelope::seal(&key, &place, value).unwrap();
        assert_not_there("seal", &[value, key.key.bytes()]);
        envelope::open(&key, &place, &sealed).unwrap();
        assert_not_there("open", &[value, key.key.bytes()]);
        envelope::fingerprint(&key.key, Uuid::nil(), value);
        assert_not_there("fingerprint", &[value, key.key.bytes()]);
        let (ring_key, id) = (SecretKey::generate(), KeyId::parse("a").unwrap());
        let wrapped = envelope::wrap(&ring_key, &id, &key).unwrap();
        assert_not_there("wrap", &[ring_key.bytes(), key.key.bytes()]);
        envelope::unwrap(&ring_key, &id, Uuid::nil(), Uuid::nil(), &wrapped).unwrap();
        assert_not_there("unwrap", &[ring_key.bytes(), key.key.bytes()]);
    }
}
