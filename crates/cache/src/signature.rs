//! Signatures of results: Ed25519 (RFC 8032), with keys as OpenSSL writes them.
//!
//! A signature covers everything that a manifest says of a result except the recipe key, which a later
//! run may replace, and the files by their digests. Whoever holds the key vouches that a run of the
//! ingredients gave these files.

use std::fmt::{self, Debug, Display};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_compact::{KeyPair, Seed};
use serde::{Deserialize, Serialize};

use crate::manifest::{Download, Manifest, Output};
use crate::{ContentKey, Ingredients, NodeName};

/// What comes before the seed in a PKCS #8 key and before the point in a public key (RFC 8410).
const PRIVATE: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];
const PUBLIC: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A result's signature.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// The public key of whoever signed.
    pub key: String,
    /// The signature, in Base64.
    pub value: String,
}

/// A key that signs results.
pub struct Signer(KeyPair);

impl Signer {
    /// The private key in a PEM file, as `openssl genpkey -algorithm ed25519` writes it.
    pub fn from_pem(text: &str) -> Result<Self, &'static str> {
        let lines = text.lines().map(str::trim);
        let inside = lines
            .skip_while(|line| *line != "-----BEGIN PRIVATE KEY-----")
            .skip(1)
            .take_while(|line| *line != "-----END PRIVATE KEY-----");
        let body: String = inside.collect();
        let der = STANDARD.decode(body).map_err(|_| "it is not an Ed25519 private key in PEM")?;
        let seed: &[u8; 32] = der
            .strip_prefix(&PRIVATE)
            .and_then(|seed| seed.try_into().ok())
            .ok_or("it is not an Ed25519 private key in PEM")?;
        Ok(Self(KeyPair::from_seed(Seed::new(*seed))))
    }

    /// The key by which others trust this one.
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.pk)
    }

    fn sign(&self, message: &[u8]) -> Signature {
        let value = STANDARD.encode(*self.0.sk.sign(message, None));
        Signature { key: self.public().to_string(), value }
    }
}

impl Debug for Signer {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.public())
    }
}

/// A public key, written as the one line between the first and the last that `openssl pkey -pubout`
/// prints.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey(ed25519_compact::PublicKey);

impl PublicKey {
    /// Parses that line.
    pub fn parse(text: &str) -> Option<Self> {
        let der = STANDARD.decode(text.trim()).ok()?;
        ed25519_compact::PublicKey::from_slice(der.strip_prefix(&PUBLIC)?).ok().map(Self)
    }

    fn has_signed(&self, message: &[u8], value: &str) -> bool {
        let bytes = STANDARD.decode(value).ok();
        let signature = bytes.and_then(|bytes| ed25519_compact::Signature::from_slice(&bytes).ok());
        signature.is_some_and(|signature| self.0.verify(message, &signature).is_ok())
    }
}

impl Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&STANDARD.encode([&PUBLIC[..], &self.0[..]].concat()))
    }
}

impl Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// Whose results count, and the key that signs those made here.
#[derive(Debug, Default)]
pub struct Trust {
    /// The trusted keys; without any, every result counts.
    pub keys: Vec<PublicKey>,
    /// The key of this run. Its results count here.
    pub signer: Option<Signer>,
    /// Why there is no key although the user names one.
    pub no_key: Option<String>,
}

impl Trust {
    /// Whether only signed results count.
    pub fn is_required(&self) -> bool {
        !self.keys.is_empty()
    }

    /// Why a result does not count, if it does not.
    pub fn problem(&self, manifest: &Manifest) -> Option<String> {
        if !self.is_required() {
            return None;
        }
        let Some(signature) = &manifest.signature else {
            return Some("the result has no signature".to_owned());
        };
        let own = self.signer.as_ref().map(Signer::public);
        let Some(key) = self.keys.iter().chain(&own).find(|key| key.to_string() == signature.key)
        else {
            return Some(format!(
                "the result is signed with {}, which is not trusted",
                signature.key
            ));
        };
        let is_valid = key.has_signed(&message(manifest), &signature.value);
        (!is_valid).then(|| "the signature does not match the result".to_owned())
    }

    /// Signs a result, if there is a key.
    pub fn sign(&self, manifest: &mut Manifest) {
        manifest.signature = None;
        manifest.signature = self.signer.as_ref().map(|signer| signer.sign(&message(manifest)));
    }
}

/// What a signature covers. Maps and lists in it are sorted, so that it is the same text everywhere.
fn message(manifest: &Manifest) -> Vec<u8> {
    #[derive(Serialize)]
    struct Signed<'m> {
        signed: &'static str,
        format: u32,
        node: &'m NodeName,
        key: &'m ContentKey,
        summary: &'m str,
        downloads: &'m [Download],
        ingredients: &'m Ingredients,
        outputs: &'m [Output],
    }
    let Manifest { format, node, key, summary, downloads, ingredients, outputs, .. } = manifest;
    let signed = Signed {
        signed: "knockline result",
        format: *format,
        node,
        key,
        summary,
        downloads,
        ingredients,
        outputs,
    };
    // Texts and numbers always become JSON.
    serde_json::to_vec(&signed).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Digest, RecipeKey};

    /// RFC 8410, section 10.3: an example's private key, and its public key.
    const PEM: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhC\n-----END PRIVATE KEY-----\n";
    const PUBLIC_KEY: &str = "MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=";
    const OTHER: &str = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEINTuctv5E1hK1bbY8fdp+K06/nwoy/HU++CXqI9EdVhD\n-----END PRIVATE KEY-----\n";

    fn signer(pem: &str) -> Signer {
        Signer::from_pem(pem).expect("a key")
    }

    fn manifest() -> Manifest {
        let digest = Digest::of(b"x");
        let recipe = RecipeKey::from(digest.clone());
        let output = Output { path: "x".to_owned(), size: 1, digest };
        let node = NodeName::try_from("split").expect("a name");
        Manifest::new(&node, recipe, Ingredients::default(), "made".to_owned(), vec![output])
    }

    #[test]
    fn keys_are_openssl_s() {
        assert_eq!(signer(PEM).public().to_string(), PUBLIC_KEY);
        assert_eq!(PublicKey::parse(PUBLIC_KEY), Some(signer(PEM).public()));
        for wrong in ["", "x", "MCowBQYDK2VwAyEA", PEM] {
            assert_eq!(PublicKey::parse(wrong), None, "{wrong}");
        }
        for wrong in
            ["", PUBLIC_KEY, &PEM.replace("PRIVATE", "PUBLIC"), &PEM.replace("BCIE", "BCIF")]
        {
            assert!(Signer::from_pem(wrong).is_err(), "{wrong}");
        }
        assert!(!format!("{:?}", signer(PEM)).contains("1O5y"), "the key is shown");
    }

    #[test]
    fn only_what_a_trusted_key_has_signed_counts() {
        let of = |keys: Vec<PublicKey>, signer| Trust { keys, signer, no_key: None };
        let main = of(vec![signer(PEM).public()], None);
        let mut made = manifest();
        assert!(main.problem(&made).is_some_and(|p| p.contains("no signature")));
        assert_eq!(Trust::default().problem(&made), None);
        of(Vec::new(), Some(signer(OTHER))).sign(&mut made);
        assert!(main.problem(&made).is_some_and(|p| p.contains("not trusted")));
        // Those who sign trust what they have made.
        assert_eq!(of(main.keys.clone(), Some(signer(OTHER))).problem(&made), None);
        of(Vec::new(), Some(signer(PEM))).sign(&mut made);
        assert_eq!(main.problem(&made), None);
        // A later run notes its recipe.
        made.recipe = RecipeKey::from(Digest::of(b"another"));
        assert_eq!(main.problem(&made), None);
    }

    #[test]
    fn every_change_of_a_signed_result_is_seen() {
        let trust =
            Trust { keys: vec![signer(PEM).public()], signer: Some(signer(PEM)), no_key: None };
        let mut made = manifest();
        trust.sign(&mut made);
        let changes: [fn(&mut Manifest); 6] = [
            |m| m.node = NodeName::try_from("embed").expect("a name"),
            |m| m.key = ContentKey::from(Digest::of(b"y")),
            |m| m.summary.push('!'),
            |m| m.outputs.iter_mut().for_each(|o| o.digest = Digest::of(b"y")),
            |m| m.outputs.clear(),
            |m| m.signature.iter_mut().for_each(|s| s.value = STANDARD.encode([0; 64])),
        ];
        for change in changes {
            let mut forged = made.clone();
            change(&mut forged);
            assert_eq!(
                trust.problem(&forged).as_deref(),
                Some("the signature does not match the result")
            );
        }
    }
}
