//! Reading members out of a `.tar.gz` in one pass. Nothing is ever extracted: names in an archive never become paths.

use super::error::{DataError, Result};
use flate2::read::GzDecoder;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

/// Bytes that other members and padding may take in all.
const SLACK: u64 = 1 << 20;

/// A member that must be there.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub name: String,
    pub bytes: usize,
}

/// The contents of `members`, in their order.
///
/// # Errors
/// A member that is missing, there twice, no regular file, or of another size; an archive that unpacks to more than the
/// members and 1 MiB, is damaged, or is no `.tar.gz`.
pub(super) fn read(path: &Path, members: &[Member]) -> Result<Vec<Vec<u8>>> {
    let file = File::open(path).map_err(|error| DataError::io("read", path, error))?;
    let wanted: u64 = members.iter().map(|member| member.bytes as u64).sum();
    // One byte more than allowed: reading it proves that there is too much.
    let limit = wanted + SLACK + 1;
    let damaged = |error: std::io::Error| {
        DataError::invalid(format!("{}: not a whole .tar.gz archive: {error}", path.display()))
            .with_help("the file is cut off or is something else; download it again")
    };
    let mut archive = tar::Archive::new(GzDecoder::new(BufReader::new(file)).take(limit));
    let mut contents: Vec<Option<Vec<u8>>> = vec![None; members.len()];
    for entry in archive.entries().map_err(damaged)? {
        let mut entry = entry.map_err(damaged)?;
        let name = entry.path_bytes().into_owned();
        let Some(position) = members.iter().position(|member| member.name.as_bytes() == name.as_slice()) else {
            continue;
        };
        let member = &members[position];
        let complain =
            |what: String| Err(DataError::invalid(format!("{}: member {}: {what}", path.display(), member.name)));
        if !entry.header().entry_type().is_file() {
            return complain(format!("expected a regular file, found {:?}", entry.header().entry_type()));
        }
        if entry.size() != member.bytes as u64 {
            return complain(format!("expected {} bytes, found {}", member.bytes, entry.size()));
        }
        if contents[position].is_some() {
            return complain("there twice".to_owned());
        }
        let mut bytes = Vec::with_capacity(member.bytes);
        entry.read_to_end(&mut bytes).map_err(damaged)?;
        if bytes.len() != member.bytes {
            return complain(format!("expected {} bytes, found {} before the archive ends", member.bytes, bytes.len()));
        }
        contents[position] = Some(bytes);
    }
    let mut rest = archive.into_inner();
    // To the end, where the checksum of the compressed stream is compared.
    std::io::copy(&mut rest, &mut std::io::sink()).map_err(damaged)?;
    if rest.limit() == 0 {
        return Err(DataError::invalid(format!("{}: unpacks to more than {} bytes", path.display(), limit - 1)));
    }
    let found = contents.iter().zip(members).find(|(content, _)| content.is_none());
    if let Some((_, missing)) = found {
        return Err(DataError::invalid(format!("{}: has no member {}", path.display(), missing.name)));
    }
    Ok(contents.into_iter().flatten().collect())
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Member, read};
    use flate2::{Compression, write::GzEncoder};
    use std::path::Path;

    /// Writes a `.tar.gz` of regular files.
    pub fn write(path: &Path, files: &[(&str, &[u8])]) {
        let mut builder = tar::Builder::new(GzEncoder::new(std::fs::File::create(path).unwrap(), Compression::fast()));
        for (name, bytes) in files {
            let mut header = tar::Header::new_ustar();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap().finish().unwrap();
    }

    fn members() -> [Member; 2] {
        [("d/a", 3), ("d/b", 2)].map(|(name, bytes)| Member { name: name.to_owned(), bytes })
    }

    #[test]
    fn members_in_their_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tar.gz");
        write(&path, &[("d/readme", b"hello"), ("d/b", b"45"), ("d/a", b"123")]);
        assert_eq!(read(&path, &members()).unwrap(), [b"123".to_vec(), b"45".to_vec()]);
    }

    #[test]
    fn anything_else_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tar.gz");
        let text = |files: &[(&str, &[u8])]| {
            write(&path, files);
            read(&path, &members()).unwrap_err().to_string().replace(path.to_str().unwrap(), "X")
        };
        assert_eq!(text(&[("d/b", b"45")]), "X: has no member d/a");
        assert_eq!(text(&[("d/a", b"12")]), "X: member d/a: expected 3 bytes, found 2");
        assert_eq!(text(&[("d/a", b"123"), ("d/a", b"456")]), "X: member d/a: there twice");
        let zeros = vec![0; 3 << 20];
        let bomb = text(&[("d/a", b"123"), ("d/b", b"45"), ("z", &zeros)]);
        assert!(
            bomb == "X: unpacks to more than 1048581 bytes" || bomb.starts_with("X: not a whole .tar.gz"),
            "{bomb}"
        );
    }

    #[test]
    fn links_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tar.gz");
        let mut builder = tar::Builder::new(GzEncoder::new(std::fs::File::create(&path).unwrap(), Compression::fast()));
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        builder.append_link(&mut header, "d/a", "/etc/passwd").unwrap();
        builder.into_inner().unwrap().finish().unwrap();
        let text = read(&path, &members()).unwrap_err().to_string();
        assert_eq!(text, format!("{}: member d/a: expected a regular file, found Symlink", path.display()));
    }

    #[test]
    fn damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.tar.gz");
        write(&path, &[("d/a", b"123"), ("d/b", b"45")]);
        let whole = std::fs::read(&path).unwrap();
        for cut in [0, 5, whole.len() / 2, whole.len() - 4] {
            std::fs::write(&path, &whole[..cut]).unwrap();
            assert!(read(&path, &members()).is_err(), "cut at {cut} of {}", whole.len());
        }
        let mut flipped = whole.clone();
        let checksum = whole.len() - 6;
        flipped[checksum] ^= 1;
        std::fs::write(&path, &flipped).unwrap();
        let text = read(&path, &members()).unwrap_err().to_string();
        assert!(text.contains("not a whole .tar.gz archive"), "{text}");
    }
}
