//! The protocol of `tenancy.key_wrap_command`: lines for a command that wraps and unwraps keys, and its answers.
//!
//! The command stands for a service that keeps the key-encryption key, so that the key never enters the server.

use super::key::{KEY_BYTES, KeyId, SecretKey};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use uuid::Uuid;
use zeroize::Zeroizing;

/// The most bytes of a key as a service wraps it.
pub const MAX_WRAPPED: usize = 4096;

/// The most bytes of an answer to a request for so many keys.
pub const fn max_answer(keys: usize) -> usize {
    keys * (MAX_WRAPPED.div_ceil(3) * 4 + 256)
}

/// The longest version of a service's key, in bytes.
const MAX_VERSION: usize = 128;

/// What the command is to do: `%o`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Wrap keys.
    Wrap,
    /// Unwrap wrapped keys.
    Unwrap,
}

/// A key as a service wraps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrappedKey {
    /// The bytes, which only the service understands.
    pub bytes: Vec<u8>,
    /// The version of the service's key that it is wrapped under, if the service has versions.
    pub version: Option<String>,
}

/// The command with `%o` replaced by the operation, `%k` by the id of the key and `%%` by `%`.
///
/// The error is the reason why the setting cannot be used.
pub fn command(setting: &str, operation: Operation, key: &KeyId) -> Result<String, &'static str> {
    let mut command = String::with_capacity(setting.len() + 64);
    let (mut rest, mut says_what) = (setting.chars(), false);
    while let Some(character) = rest.next() {
        if character != '%' {
            command.push(character);
            continue;
        }
        match rest.next() {
            Some('o') => {
                says_what = true;
                command.push_str(match operation {
                    Operation::Wrap => "wrap",
                    Operation::Unwrap => "unwrap",
                });
            }
            // The characters of an id mean nothing to a shell.
            Some('k') => command.push_str(key.as_str()),
            Some('%') => command.push('%'),
            _ => return Err("it has a % that is none of %o, %k and %%"),
        }
    }
    if says_what { Ok(command) } else { Err("it has no %o, which becomes wrap or unwrap") }
}

/// The line of a key to be wrapped or unwrapped: id, organization and base64.
pub fn write_line(request: &mut Zeroizing<Vec<u8>>, id: Uuid, organization: Uuid, bytes: &[u8]) {
    let encoded = bytes.len().div_ceil(3) * 4;
    let line = encoded + 2 * (uuid::fmt::Hyphenated::LENGTH + 1) + 1;
    if request.capacity() - request.len() < line {
        // A vector that grows by itself leaves its old bytes behind.
        let mut larger = Zeroizing::new(Vec::with_capacity((request.capacity() * 2).max(request.len() + line)));
        larger.extend_from_slice(request);
        *request = larger;
    }
    for id in [id, organization] {
        let mut text = uuid::Uuid::encode_buffer();
        request.extend_from_slice(id.hyphenated().encode_lower(&mut text).as_bytes());
        request.push(b' ');
    }
    let start = request.len();
    request.resize(start + encoded, 0);
    let written = STANDARD.encode_slice(bytes, &mut request[start..]).unwrap_or(0);
    request.truncate(start + written);
    request.push(b'\n');
}

/// The answer to a request to wrap the keys with these ids.
///
/// The error is the reason why all of it is refused. It contains nothing of the answer.
pub fn wrapped_keys(answer: &[u8], ids: &[Uuid]) -> Result<Vec<WrappedKey>, String> {
    lines(answer, ids)?
        .into_iter()
        .map(|(number, line)| {
            let mut parts = line.splitn(2, |byte| *byte == b' ');
            let encoded = parts.next().unwrap_or_default();
            let version = parts.next().map(|version| version_of(version).ok_or_else(|| because(number, "version")));
            let bytes = STANDARD.decode(encoded).ok().filter(|bytes| (1..=MAX_WRAPPED).contains(&bytes.len()));
            let bytes = bytes.ok_or_else(|| because(number, "key"))?;
            Ok(WrappedKey { bytes, version: version.transpose()? })
        })
        .collect()
}

/// The answer to a request to unwrap the keys with these ids. The error is as that of [`wrapped_keys`].
pub fn unwrapped_keys(answer: &[u8], ids: &[Uuid]) -> Result<Vec<SecretKey>, String> {
    lines(answer, ids)?
        .into_iter()
        .map(|(number, line)| {
            let encoded = line.split(|byte| *byte == b' ').next().unwrap_or_default();
            // One byte more than a key has, so that a longer one is seen as such.
            let mut key = Zeroizing::new([0; KEY_BYTES + 4]);
            match STANDARD.decode_slice(encoded, &mut key[..]) {
                Ok(KEY_BYTES) => key.first_chunk().map(SecretKey::new).ok_or_else(|| because(number, "key")),
                _ => Err(because(number, "key")),
            }
        })
        .collect()
}

/// The numbers of the lines, and what stands behind the id of each: one line a key, in the order of the request.
fn lines<'a>(answer: &'a [u8], ids: &[Uuid]) -> Result<Vec<(usize, &'a [u8])>, String> {
    let answer = answer.strip_suffix(b"\n").unwrap_or(answer);
    let found: Vec<&[u8]> = answer.split(|byte| *byte == b'\n').filter(|_| !answer.is_empty()).collect();
    if found.len() != ids.len() {
        return Err(format!("the command printed {} lines for {} keys", found.len(), ids.len()));
    }
    let mut lines = Vec::with_capacity(ids.len());
    for ((number, line), id) in (1..).zip(found).zip(ids) {
        let mut text = Uuid::encode_buffer();
        let id = id.hyphenated().encode_lower(&mut text).as_bytes();
        let rest = line.strip_prefix(id).and_then(|rest| rest.strip_prefix(b" "));
        lines.push((number, rest.ok_or_else(|| because(number, "id"))?));
    }
    Ok(lines)
}

fn because(line: usize, what: &str) -> String {
    match what {
        "id" => format!("line {line} of the command's output does not begin with the id of the key that was asked for"),
        "version" => {
            format!("the version on line {line} of the command's output is not of 1 to 128 visible characters")
        }
        _ => format!("line {line} of the command's output does not have the base64 of a key"),
    }
}

fn version_of(text: &[u8]) -> Option<String> {
    let visible = (1..=MAX_VERSION).contains(&text.len()) && text.iter().all(u8::is_ascii_graphic);
    visible.then(|| String::from_utf8_lossy(text).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Uuid = Uuid::from_u128(10);
    const B: Uuid = Uuid::from_u128(11);

    fn id() -> KeyId {
        KeyId::parse("kms-1").unwrap()
    }

    #[test]
    fn a_command_gets_operation_and_key() {
        let made = |setting| command(setting, Operation::Unwrap, &id());
        assert_eq!(made("kms --%o -k '%k' 100%%"), Ok("kms --unwrap -k 'kms-1' 100%".to_owned()));
        assert_eq!(command("%o", Operation::Wrap, &id()), Ok("wrap".to_owned()));
        assert!(made("kms %k").unwrap_err().contains("no %o"));
        for setting in ["%o %x", "%o %", "%o %O"] {
            assert!(made(setting).unwrap_err().contains("none of"), "{setting}");
        }
    }

    #[test]
    fn a_request_has_a_line_for_each_key() {
        let mut request = Zeroizing::new(Vec::new());
        write_line(&mut request, A, B, &[0xff; 3]);
        write_line(&mut request, B, A, &[0; 32]);
        let expected = "00000000-0000-0000-0000-00000000000a 00000000-0000-0000-0000-00000000000b ////\n\
                        00000000-0000-0000-0000-00000000000b 00000000-0000-0000-0000-00000000000a \
                        AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n";
        assert_eq!(std::str::from_utf8(&request).unwrap(), expected);
    }

    #[test]
    fn an_answer_has_the_keys_that_were_asked_for_in_their_order() {
        let key = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        let wrapped = wrapped_keys(format!("{A} AAEC\n{B} dmF1bHQ6djE= v7\n").as_bytes(), &[A, B]).unwrap();
        assert_eq!(wrapped[0], WrappedKey { bytes: vec![0, 1, 2], version: None });
        assert_eq!(wrapped[1].version.as_deref(), Some("v7"));
        assert_eq!(wrapped_keys(b"", &[]).unwrap(), []);
        let unwrapped = unwrapped_keys(format!("{A} {key}\n{B} {key} 3").as_bytes(), &[A, B]).unwrap();
        assert_eq!(unwrapped[1].bytes(), &[0; 32]);

        for (answer, why) in [
            (String::new(), "printed 0 lines for 2 keys"),
            (format!("{A} {key}\n"), "printed 1 lines for 2 keys"),
            (format!("{A} {key}\n{B} {key}\n{B} {key}\n"), "printed 3 lines for 2 keys"),
            (format!("{A} {key}\n\n"), "line 2 of the command's output does not begin with the id"),
            (format!("{B} {key}\n{A} {key}\n"), "line 1 of the command's output does not begin with the id"),
            (format!("{A} {key}\n{A} {key}\n"), "line 2 of the command's output does not begin with the id"),
            (format!("{A} {key}\n{B}\n"), "line 2 of the command's output does not begin with the id"),
            (format!("{A} {key}\n{B} !\n"), "line 2 of the command's output does not have the base64"),
            (format!("{A}  {key}\n{B} {key}\n"), "line 1 of the command's output does not have the base64"),
            ("garbage\nand more\n".to_owned(), "line 1 of the command's output does not begin with the id"),
        ] {
            let refused = wrapped_keys(answer.as_bytes(), &[A, B]).unwrap_err();
            assert!(refused.contains(why), "{answer:?}: {refused}");
            let refused = unwrapped_keys(answer.as_bytes(), &[A, B]).err().unwrap();
            assert!(refused.contains(why) && !refused.contains(key), "{answer:?}: {refused}");
        }
        for short in ["AAEC", &STANDARD.encode([0; 31]), &STANDARD.encode([0; 33]), &STANDARD.encode([0; 64])] {
            assert!(unwrapped_keys(format!("{A} {short}").as_bytes(), &[A]).is_err(), "{short}");
        }
        for version in ["", " ", "a b", "é", &"v".repeat(129)] {
            let refused = wrapped_keys(format!("{A} AAEC {version}").as_bytes(), &[A]).unwrap_err();
            assert!(refused.contains("the version on line 1"), "{version:?}");
        }
        let large = STANDARD.encode(vec![0; MAX_WRAPPED + 1]);
        assert!(wrapped_keys(format!("{A} {large}").as_bytes(), &[A]).is_err());
    }
}
