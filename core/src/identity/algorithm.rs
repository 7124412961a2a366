//! The signature algorithms that a token may use.
//!
//! Decision: `docs/decisions/54-cryptography.md`.

use std::fmt;
use std::str::FromStr;

/// A JWS signature or MAC algorithm (RFC 7518 section 3.1, RFC 8037 section 3.1).
///
/// The type has no variant for `none`, so that an unsigned token cannot be represented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// `HS256`: HMAC with SHA-256 (RFC 7518 section 3.2).
    Hs256,
    /// `HS384`: HMAC with SHA-384 (RFC 7518 section 3.2).
    Hs384,
    /// `HS512`: HMAC with SHA-512 (RFC 7518 section 3.2).
    Hs512,
    /// `RS256`: RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 section 3.3).
    Rs256,
    /// `RS384`: RSASSA-PKCS1-v1_5 with SHA-384 (RFC 7518 section 3.3).
    Rs384,
    /// `RS512`: RSASSA-PKCS1-v1_5 with SHA-512 (RFC 7518 section 3.3).
    Rs512,
    /// `PS256`: RSASSA-PSS with SHA-256 and MGF1 with SHA-256 (RFC 7518 section 3.5).
    Ps256,
    /// `PS384`: RSASSA-PSS with SHA-384 and MGF1 with SHA-384 (RFC 7518 section 3.5).
    Ps384,
    /// `PS512`: RSASSA-PSS with SHA-512 and MGF1 with SHA-512 (RFC 7518 section 3.5).
    Ps512,
    /// `ES256`: ECDSA on the curve P-256 with SHA-256 (RFC 7518 section 3.4).
    Es256,
    /// `ES384`: ECDSA on the curve P-384 with SHA-384 (RFC 7518 section 3.4).
    Es384,
    /// `EdDSA`: EdDSA on the curve Ed25519 (RFC 8037 section 3.1); Ed448 is not supported.
    EdDsa,
}

/// The kind of key that an [`Algorithm`] needs: the `kty` of its JWK (RFC 7518 section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyFamily {
    /// `oct`: a secret that both signs and verifies (RFC 7518 section 6.4).
    Symmetric,
    /// `RSA`: an RSA public key (RFC 7518 section 6.3).
    Rsa,
    /// `EC`: a public key on P-256 or P-384 (RFC 7518 section 6.2).
    EllipticCurve,
    /// `OKP`: an Edwards curve key (RFC 8037 section 2).
    OctetKeyPair,
}

/// The error for a text that is not the exact name of an [`Algorithm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownAlgorithm;

impl Algorithm {
    /// Every algorithm, in the order of RFC 7518 section 3.1.
    pub const ALL: [Self; 12] = [
        Self::Hs256,
        Self::Hs384,
        Self::Hs512,
        Self::Rs256,
        Self::Rs384,
        Self::Rs512,
        Self::Es256,
        Self::Es384,
        Self::Ps256,
        Self::Ps384,
        Self::Ps512,
        Self::EdDsa,
    ];

    /// The name in the `alg` member of a header or of a JWK.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Hs384 => "HS384",
            Self::Hs512 => "HS512",
            Self::Rs256 => "RS256",
            Self::Rs384 => "RS384",
            Self::Rs512 => "RS512",
            Self::Ps256 => "PS256",
            Self::Ps384 => "PS384",
            Self::Ps512 => "PS512",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    /// The kind of key that this algorithm needs.
    pub const fn family(self) -> KeyFamily {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => KeyFamily::Symmetric,
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => KeyFamily::Rsa,
            Self::Es256 | Self::Es384 => KeyFamily::EllipticCurve,
            Self::EdDsa => KeyFamily::OctetKeyPair,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Algorithm {
    type Err = UnknownAlgorithm;

    /// Parses the name, which is case-sensitive (RFC 7515 section 4.1.1): `rs256` is not RS256.
    ///
    /// RFC 9864 section 2.2 gives EdDSA with this curve the name `Ed25519`. The RFC deprecates the name `EdDSA`, which
    /// leaves the curve to the key. Both names request the same operation and parse as the same variant: a key
    /// published under either name verifies tokens that carry either.
    fn from_str(name: &str) -> Result<Self, UnknownAlgorithm> {
        if name == "Ed25519" {
            return Ok(Self::EdDsa);
        }
        Self::ALL.into_iter().find(|algorithm| algorithm.name() == name).ok_or(UnknownAlgorithm)
    }
}

impl fmt::Display for UnknownAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unknown signature algorithm")
    }
}

impl std::error::Error for UnknownAlgorithm {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_algorithm_is_found_by_its_own_name() {
        for algorithm in Algorithm::ALL {
            assert_eq!(algorithm.to_string().parse(), Ok(algorithm));
        }
    }

    #[test]
    fn rfc_9864_ed25519_is_another_name_of_eddsa_and_ed448_is_none() {
        assert_eq!("Ed25519".parse(), Ok(Algorithm::EdDsa));
        assert_eq!(Algorithm::EdDsa.name(), "EdDSA", "which every library knows");
        for name in ["Ed448", "ED25519", "ed25519", "Ed25519ph", "ESP256", "ESP384"] {
            assert_eq!(name.parse::<Algorithm>(), Err(UnknownAlgorithm), "{name}");
        }
    }

    #[test]
    fn a_name_in_another_case_or_with_spaces_is_no_algorithm() {
        for name in
            ["rs256", "Rs256", "EDDSA", "eddsa", " RS256", "RS256 ", "RS256\0", "", "none", "None", "NONE", "nOnE"]
        {
            assert_eq!(name.parse::<Algorithm>(), Err(UnknownAlgorithm), "{name:?}");
        }
    }
}
