//! The signature algorithms that a token may use, and nothing else that a header may name.

use std::fmt;
use std::str::FromStr;

/// A JWS signature or MAC algorithm (RFC 7518 section 3.1, RFC 8037 section 3.1).
///
/// `none` is no variant: an unsigned token cannot even be represented.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    /// EdDSA with the curve Ed25519, the only one there is here.
    EdDsa,
}

/// The kind of key that an [`Algorithm`] needs: the `kty` of its JWK (RFC 7518 section 6.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyFamily {
    /// `oct`: a secret that signs and verifies.
    Symmetric,
    /// `RSA`
    Rsa,
    /// `EC`
    EllipticCurve,
    /// `OKP`: an Edwards curve key (RFC 8037).
    OctetKeyPair,
}

/// The text is not the exact name of an [`Algorithm`].
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

    /// RFC 7515 section 4.1.1: the name is case-sensitive, so `rs256` is not RS256.
    ///
    /// RFC 9864 section 2.2 gives EdDSA with this curve a name of its own, `Ed25519`, and deprecates the old one,
    /// which leaves the curve to the key. Both ask for one and the same operation, so they are one algorithm here: a
    /// key that is published under either name verifies tokens that carry either.
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
