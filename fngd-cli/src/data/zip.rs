//! Reading members of a zip file by name: stored or deflated, as numpy writes them. Nothing is ever extracted.
//!
//! The list of members at the end of the file (the central directory) is the truth; each member's own header is only skipped.

use flate2::read::DeflateDecoder;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom, Take};

/// An end record has 22 bytes and may be followed by a comment of up to 65,535.
const END_BYTES: u64 = 22;
const COMMENT_LIMIT: u64 = 65_535;
/// Most bytes of the list of members.
const DIRECTORY_LIMIT: u64 = 16 << 20;
/// In place of a size that does not fit into four bytes; the zip64 field has it.
const ELSEWHERE: u32 = u32::MAX;

/// A zip file that is open for reading.
pub(super) struct Archive {
    file: File,
    members: Vec<Member>,
}

#[derive(Debug, Clone)]
struct Member {
    name: String,
    is_deflated: bool,
    checksum: u32,
    compressed: u64,
    bytes: u64,
    /// Where its own header begins.
    start: u64,
}

impl Archive {
    /// Reads the list of members.
    pub fn open(mut file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let tail_start = length.saturating_sub(END_BYTES + COMMENT_LIMIT);
        let tail = read_at(&mut file, tail_start, length - tail_start)?;
        let end = (0..=tail.len().saturating_sub(END_BYTES as usize))
            .rev()
            .find(|&at| tail[at..].starts_with(b"PK\x05\x06"))
            .ok_or_else(|| damaged("no list of members at its end"))?;
        let (mut size, mut start) = (u64::from(u32_at(&tail, end + 12)?), u64::from(u32_at(&tail, end + 16)?));
        if start == u64::from(ELSEWHERE) || size == u64::from(ELSEWHERE) {
            (size, start) = zip64_end(&mut file, &tail, end)?;
        }
        if size > DIRECTORY_LIMIT || start.checked_add(size).is_none_or(|end| end > length) {
            return Err(damaged("the list of members lies outside the file"));
        }
        let directory = read_at(&mut file, start, size)?;
        let mut members = Vec::new();
        let mut rest = directory.as_slice();
        while !rest.is_empty() {
            let (member, used) = Member::parse(rest)?;
            members.push(member);
            rest = &rest[used..];
        }
        Ok(Self { file, members })
    }

    /// Names of all members, in the order of the list.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.members.iter().map(|member| member.name.as_str())
    }

    /// Size of the member called `name`, and its contents; reading to the end compares its size and checksum.
    pub fn member(&mut self, name: &str) -> io::Result<(u64, impl Read + '_)> {
        let mut same_name = self.members.iter().filter(|member| member.name == name);
        let member = same_name.next().ok_or_else(|| damaged("there is no such member"))?.clone();
        if same_name.next().is_some() {
            return Err(damaged("the member is there twice"));
        }
        let header = read_at(&mut self.file, member.start, 30)?;
        if !header.starts_with(b"PK\x03\x04") {
            return Err(damaged("a member does not begin where the list says"));
        }
        let skipped = 30 + u64::from(u16_at(&header, 26)?) + u64::from(u16_at(&header, 28)?);
        self.file.seek(SeekFrom::Start(member.start.saturating_add(skipped)))?;
        let stored = BufReader::new(&mut self.file).take(member.compressed);
        let content =
            if member.is_deflated { Content::Deflated(DeflateDecoder::new(stored)) } else { Content::Stored(stored) };
        let (checksum, left) = (member.checksum, member.bytes);
        Ok((member.bytes, Checked { content, found: flate2::Crc::new(), checksum, left }))
    }
}

impl Member {
    /// The member that the list begins with, and how many bytes its entry takes.
    fn parse(entry: &[u8]) -> io::Result<(Self, usize)> {
        if !entry.starts_with(b"PK\x01\x02") {
            return Err(damaged("the list of members is damaged"));
        }
        let lengths = [u16_at(entry, 28)?, u16_at(entry, 30)?, u16_at(entry, 32)?].map(usize::from);
        let [name_bytes, extra_bytes, comment_bytes] = lengths;
        let name = entry.get(46..46 + name_bytes).ok_or_else(|| damaged("a name is cut off"))?;
        let extra =
            entry.get(46 + name_bytes..46 + name_bytes + extra_bytes).ok_or_else(|| damaged("a field is cut off"))?;
        let used = 46 + name_bytes + extra_bytes + comment_bytes;
        if used > entry.len() {
            return Err(damaged("a comment is cut off"));
        }
        if u16_at(entry, 8)? & 1 != 0 {
            return Err(damaged("a member is encrypted"));
        }
        let method = u16_at(entry, 10)?;
        if method != 0 && method != 8 {
            return Err(damaged("a member is neither stored nor deflated"));
        }
        let mut wide = zip64_sizes(extra).into_iter();
        // The zip64 field holds only those that do not fit, in this order.
        let mut resolve = |size: u32| match size {
            ELSEWHERE => wide.next().ok_or_else(|| damaged("a large size is missing")),
            size => Ok(u64::from(size)),
        };
        let bytes = resolve(u32_at(entry, 24)?)?;
        let compressed = resolve(u32_at(entry, 20)?)?;
        let start = resolve(u32_at(entry, 42)?)?;
        if method == 0 && bytes != compressed {
            return Err(damaged("a stored member has two sizes"));
        }
        let name = String::from_utf8_lossy(name).into_owned();
        Ok((Self { name, is_deflated: method == 8, checksum: u32_at(entry, 16)?, compressed, bytes, start }, used))
    }
}

/// Position and size of the list, from the record that zip64 puts before the end.
fn zip64_end(file: &mut File, tail: &[u8], end: usize) -> io::Result<(u64, u64)> {
    let locator = end.checked_sub(20).map(|at| &tail[at..]).filter(|locator| locator.starts_with(b"PK\x06\x07"));
    let locator = locator.ok_or_else(|| damaged("the zip64 locator is missing"))?;
    let record = read_at(file, u64_at(locator, 8)?, 56)?;
    if !record.starts_with(b"PK\x06\x06") {
        return Err(damaged("the zip64 record is missing"));
    }
    Ok((u64_at(&record, 40)?, u64_at(&record, 48)?))
}

/// The eight-byte numbers of the zip64 field (number 1), if there is one.
fn zip64_sizes(mut extra: &[u8]) -> Vec<u64> {
    while let [a, b, c, d, rest @ ..] = extra {
        let (field, length) = (u16::from_le_bytes([*a, *b]), usize::from(u16::from_le_bytes([*c, *d])));
        let Some(content) = rest.get(..length) else { break };
        if field == 1 {
            return content.chunks_exact(8).filter_map(|number| u64_at(number, 0).ok()).collect();
        }
        extra = &rest[length..];
    }
    Vec::new()
}

enum Content<'a> {
    Stored(Take<BufReader<&'a mut File>>),
    Deflated(DeflateDecoder<Take<BufReader<&'a mut File>>>),
}

/// Gives the bytes of a member and, at their end, an error if size or checksum differ.
struct Checked<'a> {
    content: Content<'a>,
    found: flate2::Crc,
    checksum: u32,
    left: u64,
}

impl Read for Checked<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let count = match &mut self.content {
            Content::Stored(content) => content.read(buffer),
            Content::Deflated(content) => content.read(buffer),
        }?;
        self.left =
            self.left.checked_sub(count as u64).ok_or_else(|| damaged("a member is longer than the list says"))?;
        self.found.update(&buffer[..count]);
        match count {
            0 if self.left > 0 => Err(damaged("a member is shorter than the list says")),
            0 if self.found.sum() != self.checksum => Err(damaged("the checksum of a member differs")),
            count => Ok(count),
        }
    }
}

fn read_at(file: &mut File, start: u64, length: u64) -> io::Result<Vec<u8>> {
    file.seek(SeekFrom::Start(start))?;
    let mut bytes = Vec::new();
    file.take(length).read_to_end(&mut bytes)?;
    if bytes.len() as u64 == length { Ok(bytes) } else { Err(damaged("it is cut off")) }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).copied().ok_or_else(|| damaged("it is cut off"))
}

fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    field(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
    field(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> io::Result<u64> {
    field(bytes, at).map(u64::from_le_bytes)
}

fn damaged(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
pub(super) mod tests {
    use super::Archive;
    use std::fs::File;
    use std::io::{Read, Write};
    use std::path::Path;

    /// Writes a zip file; every second member is deflated.
    pub fn write(path: &Path, members: &[(&str, &[u8])]) {
        let (mut body, mut list) = (Vec::new(), Vec::new());
        for (index, (name, bytes)) in members.iter().enumerate() {
            let is_deflated = index % 2 == 1;
            let mut stored = bytes.to_vec();
            if is_deflated {
                let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).unwrap();
                stored = encoder.finish().unwrap();
            }
            let mut checksum = flate2::Crc::new();
            checksum.update(bytes);
            // Needed version, flags, method, time, date, checksum, sizes, length of the name and of the extra field.
            let mut common = vec![20, 0, 0, 0, if is_deflated { 8 } else { 0 }, 0, 0, 0, 0, 0];
            common.extend(checksum.sum().to_le_bytes());
            common.extend((stored.len() as u32).to_le_bytes());
            common.extend((bytes.len() as u32).to_le_bytes());
            common.extend((name.len() as u16).to_le_bytes());
            common.extend([0, 0]);
            list.extend(b"PK\x01\x02\x14\x00");
            list.extend(&common);
            list.extend([0; 10]);
            list.extend((body.len() as u32).to_le_bytes());
            list.extend(name.as_bytes());
            body.extend(b"PK\x03\x04");
            body.extend(&common);
            body.extend(name.as_bytes());
            body.extend(stored);
        }
        let start = body.len() as u32;
        let length = list.len() as u32;
        body.extend(list);
        body.extend(b"PK\x05\x06\x00\x00\x00\x00");
        body.extend((members.len() as u16).to_le_bytes());
        body.extend((members.len() as u16).to_le_bytes());
        body.extend(length.to_le_bytes());
        body.extend(start.to_le_bytes());
        body.extend([0, 0]);
        std::fs::write(path, body).unwrap();
    }

    fn contents(path: &Path, name: &str) -> std::io::Result<Vec<u8>> {
        let mut archive = Archive::open(File::open(path)?)?;
        let (bytes, mut member) = archive.member(name)?;
        let mut content = Vec::new();
        member.read_to_end(&mut content)?;
        assert_eq!(content.len() as u64, bytes);
        Ok(content)
    }

    #[test]
    fn both_methods() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.zip");
        write(&path, &[("a", b"first"), ("b", &[7; 1000]), ("c", b"")]);
        assert_eq!(contents(&path, "a").unwrap(), b"first");
        assert_eq!(contents(&path, "b").unwrap(), [7; 1000]);
        assert_eq!(contents(&path, "c").unwrap(), b"");
        assert_eq!(contents(&path, "d").unwrap_err().to_string(), "there is no such member");
        assert_eq!(Archive::open(File::open(&path).unwrap()).unwrap().names().collect::<Vec<_>>(), ["a", "b", "c"]);
        write(&path, &[("a", b"first"), ("a", b"second")]);
        assert_eq!(contents(&path, "a").unwrap_err().to_string(), "the member is there twice");
    }

    #[test]
    fn every_flipped_bit_is_found_or_harmless() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.zip");
        write(&path, &[("a", b"first"), ("b", b"second second second")]);
        let whole = std::fs::read(&path).unwrap();
        let mut found = 0;
        for bit in 0..8 * whole.len() {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &flipped).unwrap();
            for (name, content) in [("a", &b"first"[..]), ("b", b"second second second")] {
                match contents(&path, name) {
                    Ok(read) => assert_eq!(read, content, "bit {bit} changed {name} unnoticed"),
                    Err(_) => found += 1,
                }
            }
        }
        assert!(found > 4 * whole.len(), "only {found} of {} flips found", 8 * whole.len());
    }

    #[test]
    fn bombs_stop_at_their_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.zip");
        write(&path, &[("a", b""), ("b", &vec![0; 1 << 20])]);
        let mut bytes = std::fs::read(&path).unwrap();
        // The list says 10 bytes instead of 1 MiB.
        let list = bytes.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
        bytes[list + 24..list + 28].copy_from_slice(&10_u32.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        assert_eq!(contents(&path, "b").unwrap_err().to_string(), "a member is longer than the list says");
    }
}
