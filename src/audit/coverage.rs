//! Whether what captures changes has always been there: the state of its triggers, compared with the one seen before.

/// A table with its triggers, an event trigger, or a function of theirs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Catalog and oid.
    pub key: String,
    pub name: Option<String>,
    pub schema: Option<String>,
    /// `None` where it is gone.
    pub state: Option<String>,
    /// Everything of it fires always.
    pub whole: bool,
}

/// What has become of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    pub now: Object,
    /// The state that was seen last; `None` for an object that is new.
    pub before: Option<String>,
}

impl Change {
    /// What a change means that no event explains; `None` for an object that is new and whole.
    pub fn gap(&self) -> Option<&'static str> {
        match (&self.before, &self.now.state) {
            (None, _) if self.now.whole => None,
            (_, None) => Some("its capture is gone"),
            (_, Some(_)) if !self.now.whole => Some("it does not capture every change"),
            _ => Some("its capture was changed, or switched off and on again"),
        }
    }
}

/// What has changed between the states seen last and those of now.
pub fn changes(before: Vec<Object>, now: Vec<Object>) -> Vec<Change> {
    let mut known: std::collections::BTreeMap<_, _> =
        before.into_iter().map(|object| (object.key.clone(), object)).collect();
    let mut changes = Vec::new();
    for object in now {
        let before = known.remove(&object.key).filter(|before| before.state.is_some());
        let same = before.as_ref().is_some_and(|before| before.state == object.state && before.name == object.name);
        if !same {
            changes.push(Change { now: object, before: before.and_then(|before| before.state) });
        }
    }
    for mut gone in known.into_values().filter(|object| object.state.is_some()) {
        let before = gone.state.take();
        gone.whole = false;
        changes.push(Change { now: gone, before });
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(key: &str, state: &str, whole: bool) -> Object {
        Object { key: key.into(), name: Some("t".into()), schema: None, state: Some(state.into()), whole }
    }

    fn seen(key: &str, state: Option<&str>) -> Object {
        Object { state: state.map(str::to_owned), ..object(key, "", false) }
    }

    #[test]
    fn what_is_as_it_was_is_no_change() {
        assert_eq!(changes(vec![seen("a", Some("A 1")), seen("b", None)], vec![object("a", "A 1", true)]), []);
    }

    #[test]
    fn off_on_and_off_and_on_are_told_apart() {
        let gap = |before: &[Object], now: &[Object]| {
            changes(before.to_vec(), now.to_vec()).iter().map(Change::gap).collect::<Vec<_>>()
        };
        let before = [seen("a", Some("A 1"))];
        assert_eq!(gap(&before, &[object("a", "D 2", false)]), [Some("it does not capture every change")]);
        let again = Some("its capture was changed, or switched off and on again");
        assert_eq!(gap(&before, &[object("a", "A 3", true)]), [again]);
        assert_eq!(gap(&before, &[]), [Some("its capture is gone")]);
        assert_eq!(gap(&[], &[object("a", "A 1", true)]), [None], "a table that is new");
        assert_eq!(gap(&[seen("a", None)], &[object("a", "A 9", true)]), [None], "one that is there again");
        assert_eq!(gap(&[], &[object("a", "O 1", false)]), [Some("it does not capture every change")]);
    }
}
