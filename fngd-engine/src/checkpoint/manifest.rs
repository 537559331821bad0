//! `MANIFEST.json`: what a checkpoint consists of, with a hash of everything, itself included.

use super::fingerprint::Fingerprint;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;

/// Version of the layout and meaning of checkpoints. Another one is refused.
pub const FORMAT: u32 = 1;

/// Longest manifest that is read, in bytes.
pub const MANIFEST_LIMIT: u64 = 1 << 20;

/// The list of a checkpoint's files, and what it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub format: u32,
    pub step: u64,
    /// Every file but the manifest.
    pub files: BTreeMap<String, FileEntry>,
    pub identity: Identity,
    pub fingerprint: Fingerprint,
}

/// One file of a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileEntry {
    pub bytes: u64,
    pub sha256: String,
}

/// What a checkpoint belongs to. Resuming with another of these would train something else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// SHA-256 of the settings that decide what is computed.
    pub settings: String,
    /// SHA-256 of the ONNX file.
    pub model: String,
    /// SHA-256 of the data set, or of its description.
    pub data: String,
}

impl FileEntry {
    pub fn of(content: &[u8]) -> Self {
        Self { bytes: content.len() as u64, sha256: sha256(content) }
    }
}

impl Manifest {
    /// The file's content: JSON whose last member is the hash of all that stands before it.
    pub fn to_bytes(&self) -> Vec<u8> {
        // OK because the struct holds strings, numbers and maps with string keys only.
        let json = serde_json::to_string_pretty(self).expect("a manifest is JSON");
        // OK because a pretty-printed object ends so.
        let body = json.strip_suffix("\n}").expect("a JSON object ends with a brace");
        seal(body).into_bytes()
    }

    /// The manifest in `content`, if not one bit of it has changed.
    ///
    /// # Errors
    /// What is wrong, in a clause.
    pub fn from_bytes(content: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(content).map_err(|_| "MANIFEST.json is damaged: not UTF-8".to_owned())?;
        let body = text.rfind(SEAL).map(|end| &text[..end]).ok_or("MANIFEST.json is damaged: it ends too early")?;
        if seal(body) != text {
            return Err("MANIFEST.json is damaged: its content does not match its hash".to_owned());
        }
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(&format!("{body}\n}}"));
        let value = parsed.map_err(|error| format!("MANIFEST.json is not JSON: {error}"))?;
        let format = value.get("format").and_then(serde_json::Value::as_u64);
        if format != Some(u64::from(FORMAT)) {
            let found = format.map_or_else(|| "none".to_owned(), |format| format.to_string());
            return Err(format!("MANIFEST.json has format {found}, this program reads {FORMAT}"));
        }
        serde_json::from_value(value).map_err(|error| format!("MANIFEST.json: {error}"))
    }
}

const SEAL: &str = ",\n  \"sha256\": \"";

fn seal(body: &str) -> String {
    format!("{body}{SEAL}{}\"\n}}\n", sha256(body.as_bytes()))
}

/// SHA-256 in hexadecimal.
pub fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn example() -> Manifest {
        let files = BTreeMap::from([("state.json".to_owned(), FileEntry::of(b"{}"))]);
        let identity = Identity { settings: "a".to_owned(), model: "b".to_owned(), data: "c".to_owned() };
        Manifest { format: FORMAT, step: 7, files, identity, fingerprint: Fingerprint::default() }
    }

    #[test]
    fn sha256_is_the_standard_one() {
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn what_is_written_is_json_and_is_read_back() {
        let bytes = example().to_bytes();
        serde_json::from_slice::<serde_json::Value>(&bytes).unwrap();
        assert_eq!(Manifest::from_bytes(&bytes).unwrap(), example());
    }

    #[test]
    fn every_single_flipped_bit_is_noticed() {
        let bytes = example().to_bytes();
        for position in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[position / 8] ^= 1 << (position % 8);
            assert!(Manifest::from_bytes(&damaged).is_err(), "bit {position} of {:?}", String::from_utf8_lossy(&bytes));
        }
    }

    #[test]
    fn every_truncation_is_noticed() {
        let bytes = example().to_bytes();
        for length in 0..bytes.len() {
            assert!(Manifest::from_bytes(&bytes[..length]).is_err(), "{length} of {} bytes", bytes.len());
        }
    }

    #[test]
    fn another_format_is_refused_by_number() {
        let bytes = Manifest { format: 9, ..example() }.to_bytes();
        assert_eq!(Manifest::from_bytes(&bytes).unwrap_err(), "MANIFEST.json has format 9, this program reads 1");
    }
}
