//! Questions that were answered before: may the role do this action in that domain?
//!
//! A policy asks once per row where the names are columns. The rules answer in a microsecond, this table in a hundredth
//! of it: a place by the hash of the names, which holds them whole, so that no question gets another one's answer.

/// How many answers are kept. An application has fewer domains and actions in one statement.
const PLACES: usize = 256;

/// The most bytes of both names; longer ones are asked for each time.
const MAX_BYTES: usize = 52;

/// One answer: 64 bytes, a line of the processor's cache.
#[derive(Clone, Copy)]
struct Place {
    /// Of which context the answer is.
    generation: u64,
    domain: u8,
    action: u8,
    allowed: bool,
    names: [u8; MAX_BYTES],
}

const EMPTY: Place = Place { generation: 0, domain: 0, action: 0, allowed: false, names: [0; MAX_BYTES] };

/// Answers, each of the context that had a generation.
pub struct Answers(Box<[Place; PLACES]>);

impl Default for Answers {
    fn default() -> Self {
        Answers(Box::new([EMPTY; PLACES]))
    }
}

impl Answers {
    /// The answer to a question under the context of this generation, which is never 0; `None` if it is not known.
    #[inline]
    pub fn get(&self, generation: u64, domain: &[u8], action: &[u8]) -> Option<bool> {
        let place = &self.0[place(domain, action)];
        let (of_domain, of_action) = (usize::from(place.domain), usize::from(place.action));
        let known = place.generation == generation
            && of_domain == domain.len()
            && of_action == action.len()
            && place.names.get(..of_domain) == Some(domain)
            && place.names.get(of_domain..of_domain + of_action) == Some(action);
        known.then_some(place.allowed)
    }

    /// Keeps an answer in place of another one.
    pub fn keep(&mut self, generation: u64, domain: &[u8], action: &[u8], allowed: bool) {
        if domain.len() + action.len() > MAX_BYTES {
            return;
        }
        let mut names = [0; MAX_BYTES];
        names[..domain.len()].copy_from_slice(domain);
        names[domain.len()..domain.len() + action.len()].copy_from_slice(action);
        // Both lengths are at most MAX_BYTES.
        let (of_domain, of_action) = (domain.len() as u8, action.len() as u8);
        self.0[place(domain, action)] = Place { generation, domain: of_domain, action: of_action, allowed, names };
    }
}

/// The place of a question. Whoever chooses names so that they meet makes their own questions slow.
#[inline]
fn place(domain: &[u8], action: &[u8]) -> usize {
    let hash = mixed(mixed(domain.len() as u64, domain), action);
    (hash >> 32) as usize % PLACES
}

/// Mixes bytes into a hash, eight at a time (the multiplication of FxHash, from Firefox).
#[inline]
fn mixed(hash: u64, bytes: &[u8]) -> u64 {
    let mix = |hash: u64, word: u64| (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    let (words, rest) = bytes.as_chunks::<8>();
    let hash = words.iter().fold(hash, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    mix(hash, rest.iter().fold(1, |word, byte| word << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_answer_is_of_its_question_and_its_context() {
        let mut answers = Answers::default();
        answers.keep(1, b"finding", b"read", true);
        assert_eq!(answers.get(1, b"finding", b"read"), Some(true));
        for (generation, domain, action) in
            [(2, "finding", "read"), (1, "findin", "gread"), (1, "finding", "update"), (1, "", "findingread")]
        {
            assert_eq!(answers.get(generation, domain.as_bytes(), action.as_bytes()), None, "{domain} {action}");
        }
        assert_eq!(Answers::default().get(1, b"", b""), None, "an empty place answers nothing");
    }

    #[test]
    fn long_names_are_not_kept() {
        let mut answers = Answers::default();
        let long = [b'x'; MAX_BYTES];
        answers.keep(1, &long, b"", true);
        answers.keep(1, &long, b"read", true);
        assert_eq!((answers.get(1, &long, b""), answers.get(1, &long, b"read")), (Some(true), None));
    }

    proptest! {
        #[test]
        fn no_question_gets_the_answer_of_another(
            kept in prop::collection::vec(("[a-c]{0,3}", "[a-c]{0,3}", any::<bool>(), 1u64..3), 0..400)
        ) {
            let mut answers = Answers::default();
            let mut last = std::collections::HashMap::new();
            for (domain, action, allowed, generation) in &kept {
                answers.keep(*generation, domain.as_bytes(), action.as_bytes(), *allowed);
                last.insert((domain, action, generation), *allowed);
            }
            for ((domain, action, generation), allowed) in last {
                let answer = answers.get(*generation, domain.as_bytes(), action.as_bytes());
                prop_assert!(answer.is_none() || answer == Some(allowed));
            }
        }
    }
}
