//! `strict_json` accepts exactly what `serde_json` accepts, less repeated names and too many levels.

#![no_main]

use libfuzzer_sys::fuzz_target;
use pg_tenancy_core::identity::strict_json;
use serde_json::Value;

/// The colons outside of strings, one a member, and how deep brackets stand in one another: a second reading that
/// knows nothing of values. Only for a text that is JSON.
fn colons_and_depth(text: &str) -> (usize, usize) {
    let (mut colons, mut depth, mut deepest) = (0, 0_usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b':' => colons += 1,
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth -= 1,
            _ => {}
        }
    }
    (colons, deepest)
}

/// The members of all objects in it.
fn members(value: &Value) -> usize {
    match value {
        Value::Object(object) => object.len() + object.values().map(members).sum::<usize>(),
        Value::Array(array) => array.iter().map(members).sum(),
        _ => 0,
    }
}

fuzz_target!(|text: &str| {
    let ours = strict_json::parse(text);
    let Ok(theirs) = serde_json::from_str::<Value>(text) else {
        // Beyond its own limit of 128 levels serde_json refuses too.
        assert!(ours.is_err(), "accepted what is no JSON");
        return;
    };
    let (colons, depth) = colons_and_depth(text);
    let unambiguous = colons == members(&theirs) && depth <= strict_json::MAX_DEPTH;
    match ours {
        Ok(value) => {
            assert!(unambiguous, "accepted a repeated name, or {depth} levels");
            assert_eq!(value, theirs);
            // Written anew it is as unambiguous. Not always equal: the last digit of a fraction may differ, because
            // serde_json reads floats fast rather than exactly.
            let again = value.to_string();
            assert_eq!(strict_json::parse(&again).ok(), serde_json::from_str(&again).ok());
            assert!(members(&theirs) == colons_and_depth(&again).0);
        }
        Err(error) => assert!(!unambiguous, "refused without a reason: {error}"),
    }
});
