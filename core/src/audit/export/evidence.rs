//! Evidence: an artifact outside of the database, registered by its digest and its provenance.

use super::statement::{STATEMENT, Statement, Subject};
use crate::audit::format::encoding::{Digest, Record};
use crate::audit::format::hex::{self, Hash};
use crate::audit::format::timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The `predicateType` of statements about an artifact.
pub const PREDICATE: &str = "pg-tenancy:evidence:1";

/// The relations between an artifact and the events it names.
///
/// `derived-from` and `result-of` are W3C PROV's `wasDerivedFrom` and `wasGeneratedBy`.
pub const RELATIONS: [&str; 5] = ["concerns", "supports", "contradicts", "derived-from", "result-of"];

/// A row of `tenancy.evidence`. Times are in microseconds since 1970 UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Time-ordered id (UUID version 7).
    pub id: Uuid,
    /// The organization that the evidence belongs to.
    pub organization: Uuid,
    /// SHA-256 of the artifact.
    pub digest: Hash,
    /// The media type of the artifact (RFC 6838), such as `application/pdf`.
    pub media_type: String,
    /// The present or former location of the artifact: a URI, a file name, a system.
    pub source: String,
    /// The person or program that collected the artifact.
    pub collector: String,
    /// Time of the collection, as the collector states it.
    pub collected_at: i64,
    /// Time of the registration, by the server's clock.
    pub registered_at: i64,
    /// `sub` of the token that registered the artifact; for an operator, the database role.
    pub registered_by: String,
    /// The subject of the evidence: a control, a system, a person.
    pub subject: Option<String>,
    /// One of [`RELATIONS`].
    pub relation: String,
    /// Ids of the organization's events that the evidence names.
    pub events: Vec<Uuid>,
    /// A description for people.
    pub description: Option<String>,
}

/// The predicate of a statement about an artifact, with the spelling of in-toto's predicates.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Provenance {
    evidence: Uuid,
    organization: Uuid,
    media_type: String,
    source: String,
    collector: String,
    collected_at: String,
    registered_at: String,
    registered_by: String,
    subject: Option<String>,
    relation: String,
    events: Vec<Uuid>,
    description: Option<String>,
    /// [`Evidence::record`], which the event of the registration contains too.
    record: Hash,
}

impl Evidence {
    /// The digest over all registered fields: the column `record`, and so part of the event of the registration.
    pub fn record(&self) -> Digest {
        let events: Vec<u8> = self.events.iter().flat_map(|event| *event.as_bytes()).collect();
        Record::new("pg_tenancy/evidence/1")
            .bytes(self.id.as_bytes())
            .bytes(self.organization.as_bytes())
            .bytes(&self.digest.0)
            .text(&self.media_type)
            .text(&self.source)
            .text(&self.collector)
            .integer(self.collected_at)
            .integer(self.registered_at)
            .text(&self.registered_by)
            .optional(self.subject.as_deref())
            .text(&self.relation)
            .bytes(&events)
            .optional(self.description.as_deref())
            .digest()
    }

    /// The in-toto statement about the artifact, as JSON.
    pub fn statement(&self) -> serde_json::Result<Vec<u8>> {
        let digest = BTreeMap::from([("sha256".to_owned(), hex::encode(&self.digest.0))]);
        serde_json::to_vec(&Statement {
            kind: STATEMENT.into(),
            subject: vec![Subject { name: self.source.clone(), digest }],
            predicate_type: PREDICATE.into(),
            predicate: Provenance {
                evidence: self.id,
                organization: self.organization,
                media_type: self.media_type.clone(),
                source: self.source.clone(),
                collector: self.collector.clone(),
                collected_at: timestamp::text(self.collected_at),
                registered_at: timestamp::text(self.registered_at),
                registered_by: self.registered_by.clone(),
                subject: self.subject.clone(),
                relation: self.relation.clone(),
                events: self.events.clone(),
                description: self.description.clone(),
                record: Hash(self.record()),
            },
        })
    }
}

/// Whether the text is the name of a media type (RFC 6838 section 4.2): type, slash, subtype, without parameters.
pub fn is_media_type(text: &str) -> bool {
    let name = |part: &str| {
        let rest = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        part.len() <= 127 && part.starts_with(|c: char| c.is_ascii_alphanumeric()) && part.bytes().all(rest)
    };
    text.split_once('/').is_some_and(|(kind, subtype)| name(kind) && name(subtype))
}

/// The record digest in the payload of a registration's event; `None` if the payload has none.
pub fn registered(payload: &str) -> Option<Digest> {
    #[derive(Deserialize)]
    struct Payload {
        new: New,
    }
    #[derive(Deserialize)]
    struct New {
        record: String,
    }
    let payload: Payload = serde_json::from_str(payload).ok()?;
    hex::decode(payload.new.record.strip_prefix("\\x")?)?.try_into().ok()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn evidence() -> Evidence {
        Evidence {
            id: Uuid::from_u128(1),
            organization: Uuid::from_u128(2),
            digest: Hash([3; 32]),
            media_type: "application/pdf".into(),
            source: "https://files.example/report.pdf".into(),
            collector: "scanner 4".into(),
            collected_at: 5,
            registered_at: 6,
            registered_by: "alice".into(),
            subject: Some("CC6.1".into()),
            relation: "supports".into(),
            events: vec![Uuid::from_u128(7), Uuid::from_u128(8)],
            description: None,
        }
    }

    #[test]
    fn each_part_of_evidence_changes_its_record() {
        let base = evidence();
        let variants = [
            Evidence { id: Uuid::nil(), ..base.clone() },
            Evidence { organization: Uuid::nil(), ..base.clone() },
            Evidence { digest: Hash([9; 32]), ..base.clone() },
            Evidence { media_type: "text/plain".into(), ..base.clone() },
            Evidence { source: "x".into(), ..base.clone() },
            Evidence { collector: "x".into(), ..base.clone() },
            Evidence { collected_at: 9, ..base.clone() },
            Evidence { registered_at: 9, ..base.clone() },
            Evidence { registered_by: "x".into(), ..base.clone() },
            Evidence { subject: None, ..base.clone() },
            Evidence { relation: "contradicts".into(), ..base.clone() },
            Evidence { events: vec![Uuid::from_u128(7)], ..base.clone() },
            Evidence { description: Some(String::new()), ..base.clone() },
        ];
        for variant in variants {
            assert_ne!(variant.record(), base.record(), "{variant:?}");
            assert_ne!(variant.statement().unwrap(), base.statement().unwrap(), "{variant:?}");
        }
    }

    #[test]
    fn a_media_type_is_named_as_rfc_6838_says() {
        let long = "a".repeat(127);
        for good in ["text/plain", "application/vnd.in-toto+json", "image/svg+xml", &format!("{long}/{long}"), "a/0"] {
            assert!(is_media_type(good), "{good}");
        }
        let longer = format!("text/{long}a");
        for bad in
            ["", "text", "text/", "/plain", "text/plain; charset=utf-8", "te xt/plain", "a/b/c", ".a/b", &longer, "a/é"]
        {
            assert!(!is_media_type(bad), "{bad}");
        }
    }

    #[test]
    fn a_registration_is_found_in_its_event() {
        let digest = hex::encode(&[7; 32]);
        let payload = format!(r#"{{"new":{{"id":"x","record":"\\x{digest}","more":[1]}}}}"#);
        assert_eq!(registered(&payload), Some([7; 32]));
        for bad in ["", "{}", r#"{"new":{}}"#, r#"{"new":{"record":"\\x00"}}"#, r#"{"new":{"record":7}}"#] {
            assert_eq!(registered(bad), None, "{bad}");
        }
    }
}
