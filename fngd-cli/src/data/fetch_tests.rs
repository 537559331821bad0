//! Downloads from a server in this process that misbehaves on demand.

use super::{FetchOptions, Part, Progress, RemoteFile, fetch_file, hex, list, mirrors, obtain, path, verify};
use crate::data::http::Timeouts;
use crate::data::spec::Named;
use sha2::{Digest, Sha256};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// What the server sends to one connection after another; the last answer repeats.
#[derive(Clone)]
enum Reply {
    /// The file, honouring `Range`.
    File,
    /// The file from its beginning, whatever was asked for.
    NoRange,
    /// Announces the file, but closes after so many bytes.
    Break(usize),
    /// Other bytes of the same length.
    Wrong,
    /// Half of the file, announced as such.
    Short,
    Html,
    Status(u16),
    Redirect(&'static str),
    /// Announces the file, then says nothing.
    Stall,
}

struct Server {
    address: String,
    /// The `Range` header of each request.
    ranges: Arc<Mutex<Vec<Option<String>>>>,
}

fn serve(content: Vec<u8>, replies: Vec<Reply>) -> Server {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}/", listener.local_addr().unwrap());
    let ranges = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&ranges);
    std::thread::spawn(move || {
        for (count, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut range = None;
            for line in BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok) {
                if let Some((_, value)) = line.split_once(": ").filter(|(name, _)| name.eq_ignore_ascii_case("range")) {
                    range = Some(value.to_owned());
                }
                if line.is_empty() {
                    break;
                }
            }
            seen.lock().unwrap().push(range.clone());
            let start = range.as_deref().and_then(|range| range[6..range.len() - 1].parse::<usize>().ok()).unwrap_or(0);
            let ok = |length: usize| {
                format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n").into_bytes()
            };
            let whole = content.len();
            let partial = |start: usize| {
                match start {
                0 => ok(whole),
                _ => format!(
                    "HTTP/1.1 206 Partial Content\r\nConnection: close\r\nContent-Length: {}\r\nContent-Range: bytes {start}-{}/{whole}\r\n\r\n",
                    whole - start,
                    whole - 1
                )
                .into_bytes(),
            }
            };
            let answer = match &replies[count.min(replies.len() - 1)] {
                Reply::File => [partial(start), content[start..].to_vec()].concat(),
                Reply::NoRange => [ok(whole), content.clone()].concat(),
                Reply::Break(bytes) => [partial(start), content[start..start + bytes].to_vec()].concat(),
                Reply::Wrong => [ok(whole), vec![b'?'; whole]].concat(),
                Reply::Short => [ok(whole / 2), content[..whole / 2].to_vec()].concat(),
                Reply::Html => {
                    b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Type: text/html\r\n\r\n<html>".to_vec()
                }
                Reply::Status(status) => {
                    format!("HTTP/1.1 {status} No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n").into_bytes()
                }
                Reply::Redirect(to) => {
                    format!("HTTP/1.1 302 Found\r\nConnection: close\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
                        .into_bytes()
                }
                Reply::Stall => ok(whole),
            };
            let _ = stream.write_all(&answer);
            let _ = stream.flush();
            if matches!(replies[count.min(replies.len() - 1)], Reply::Stall) {
                std::thread::sleep(Duration::from_secs(2));
            }
        }
    });
    Server { address, ranges }
}

fn content() -> Vec<u8> {
    (0..300_000_u32).flat_map(u32::to_le_bytes).collect()
}

fn remote() -> RemoteFile {
    let content = content();
    // A leak of one short string a test buys a catalogue without lifetimes.
    let sha256 = Box::leak(hex(&Sha256::digest(&content)).into_boxed_str());
    RemoteFile { name: "set.bin", bytes: content.len() as u64, sha256 }
}

fn options() -> FetchOptions {
    let millis = Duration::from_millis;
    let timeouts = Timeouts { connect: millis(2000), stall: millis(300) };
    FetchOptions { dir: None, offline: false, mirror: None, timeouts, waits: vec![millis(1); 3] }
}

/// Fetches from mirrors that behave like `replies`; the result, what each mirror was asked for, and whether the file is right.
fn try_fetch(dir: &Path, mirrors: &[&Server]) -> Result<u64, String> {
    let addresses: Vec<String> = mirrors.iter().map(|server| server.address.clone()).collect();
    let outcome = fetch_file(&remote(), dir, &addresses, &options(), &mut |_| ());
    let outcome = outcome.map_err(|error| {
        assert_eq!((error.exit_code(), error.kind()), (4, "download"));
        let mut text = error.to_string().replace(&dir.display().to_string(), "DIR");
        for (index, address) in addresses.iter().enumerate() {
            text = text.replace(address.as_str(), &format!("MIRROR{index}/"));
        }
        text
    });
    assert_eq!(outcome.is_ok(), std::fs::read(dir.join("set.bin")).is_ok_and(|bytes| bytes == content()));
    outcome
}

#[test]
fn plain() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(content(), vec![Reply::File]);
    assert_eq!(try_fetch(dir.path(), &[&server]), Ok(1_200_000));
    assert_eq!(try_fetch(dir.path(), &[&server]), Ok(0));
    assert_eq!(*server.ranges.lock().unwrap(), [None]);
    assert!(!dir.path().join("set.bin.part").exists());
}

#[test]
fn goes_on_after_a_break() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(content(), vec![Reply::Break(400_000), Reply::Status(503), Reply::Break(300_000), Reply::File]);
    assert_eq!(try_fetch(dir.path(), &[&server]), Ok(1_200_000));
    let ranges: Vec<Option<String>> = server.ranges.lock().unwrap().clone();
    let expected = [None, Some("bytes=400000-"), Some("bytes=400000-"), Some("bytes=700000-")];
    assert_eq!(ranges, expected.map(|range| range.map(str::to_owned)));
}

#[test]
fn goes_on_in_a_later_run() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("set.bin.part"), &content()[..900_000]).unwrap();
    let server = serve(content(), vec![Reply::File]);
    assert_eq!(try_fetch(dir.path(), &[&server]), Ok(300_000));
    // A server that does not know ranges, and a part that is longer than the file.
    for left in [900_000, 1_300_000] {
        let dir = tempfile::tempdir().unwrap();
        let part = [content(), content()].concat();
        std::fs::write(dir.path().join("set.bin.part"), &part[..left]).unwrap();
        let server = serve(content(), vec![Reply::NoRange]);
        assert!(try_fetch(dir.path(), &[&server]).is_ok());
    }
}

#[test]
fn complete_part_needs_no_network() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("set.bin.part"), content()).unwrap();
    let server = serve(content(), vec![Reply::Status(500)]);
    assert_eq!(try_fetch(dir.path(), &[&server]), Ok(0));
    assert!(server.ranges.lock().unwrap().is_empty());
}

#[test]
fn wrong_bytes_are_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(content(), vec![Reply::Wrong]);
    let wrong = hex(&Sha256::digest(vec![b'?'; 1_200_000]));
    assert_eq!(
        try_fetch(dir.path(), &[&server]).unwrap_err(),
        format!(
            "cannot download set.bin:\n  MIRROR0/set.bin: expected SHA-256 {}, found {wrong} (kept as DIR/set.bin.bad)",
            remote().sha256
        )
    );
    assert!(dir.path().join("set.bin.bad").exists());
    // The next run, with a good mirror, needs no cleaning up; nor does a second mirror in the same run.
    let good = serve(content(), vec![Reply::File]);
    assert!(try_fetch(dir.path(), &[&server, &good]).is_ok());
    // A damaged file in place is replaced.
    std::fs::write(dir.path().join("set.bin"), b"damaged").unwrap();
    assert!(try_fetch(dir.path(), &[&good]).is_ok());
}

#[test]
fn every_failure_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let servers = [
        Reply::Short,
        Reply::Html,
        Reply::Status(404),
        Reply::Redirect("http://example.org/set.bin"),
        Reply::Redirect("/again"),
        Reply::Break(0),
    ]
    .map(|reply| serve(content(), vec![reply]));
    let text = try_fetch(dir.path(), &servers.each_ref()).unwrap_err();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 7);
    assert_eq!(
        lines[..6],
        [
            "cannot download set.bin:",
            "  MIRROR0/set.bin: expected 1200000 bytes, found 600000",
            "  MIRROR1/set.bin: expected a file, found a web page",
            "  MIRROR2/set.bin: the server answered 404",
            "  MIRROR3/set.bin: only https is allowed, found http://example.org/set.bin",
            "  MIRROR4/set.bin: more than 5 redirects",
        ]
    );
    assert!(lines[6].starts_with("  MIRROR5/set.bin: the connection"), "{}", lines[6]);
    assert_eq!((servers[2].ranges.lock().unwrap().len(), servers[5].ranges.lock().unwrap().len()), (1, 4));
}

#[test]
fn silence_ends() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(content(), vec![Reply::Stall]);
    let options = FetchOptions { waits: Vec::new(), ..options() };
    let error = fetch_file(&remote(), dir.path(), &[server.address], &options, &mut |_| ()).unwrap_err().to_string();
    assert!(error.contains("set.bin: the connection broke after 0 of 1200000 bytes: "), "{error}");
}

#[test]
fn offline_says_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let options = FetchOptions { dir: Some(dir.path().to_owned()), offline: true, ..options() };
    let error = obtain("mnist", &options, &mut |_| ()).unwrap_err();
    let target = dir.path().join("mnist/train-images-idx3-ubyte.gz");
    assert_eq!(error.to_string(), format!("{} is not there, and the network may not be used", target.display()));
    assert_eq!(
        error.help().unwrap(),
        format!(
            "get it on another way, for example from \
             https://storage.googleapis.com/cvdf-datasets/mnist/train-images-idx3-ubyte.gz, and put it at {}",
            target.display()
        )
    );
}

#[test]
fn own_mirror_comes_first() {
    let options = FetchOptions { mirror: Some("https://example.org/sets/".to_owned()), ..options() };
    let found = mirrors(Named::Mnist, &options);
    assert_eq!(found[..2], ["https://example.org/sets/mnist/", "https://ossci-datasets.s3.amazonaws.com/mnist/"]);
}

#[test]
fn one_process_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let remote = remote();
    let first = Part::open(dir.path(), &remote).unwrap();
    let error = Part::open(dir.path(), &remote).err().unwrap();
    assert!(error.to_string().ends_with("set.bin.part: another process is downloading it"), "{error}");
    drop(first);
    assert!(Part::open(dir.path(), &remote).is_ok());
}

#[test]
fn what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let sets = list(Some(dir.path())).unwrap();
    let names: Vec<&str> = sets.iter().map(|set| set.name).collect();
    assert_eq!(names, ["digits", "cifar10", "cifar100", "mnist", "fashion-mnist"]);
    assert!(sets.iter().all(|set| set.path.is_none()));
    assert!(path("mnist", Some(dir.path())).is_err());
    let files = verify("cifar100", Some(dir.path())).unwrap();
    assert!(files.len() == 1 && !files[0].good && files[0].found.is_none());
    let archive = dir.path().join("cifar100/cifar-100-binary.tar.gz");
    std::fs::create_dir(archive.parent().unwrap()).unwrap();
    std::fs::write(&archive, b"damaged").unwrap();
    assert_eq!(path("cifar100", Some(dir.path())).unwrap(), archive);
    let files = verify("cifar100", Some(dir.path())).unwrap();
    assert_eq!((files[0].good, files[0].found.clone()), (false, Some(hex(&Sha256::digest(b"damaged")))));
    let error = verify("digits", None).unwrap_err();
    assert_eq!(error.to_string(), "data `digits` is not a set that is downloaded");
}

#[test]
fn progress_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let server = serve(content(), vec![Reply::Break(100), Reply::File]);
    let mut told = Vec::new();
    fetch_file(&remote(), dir.path(), std::slice::from_ref(&server.address), &options(), &mut |progress| {
        told.push(progress)
    })
    .unwrap();
    let url = format!("{}set.bin", server.address);
    let started = |from| Progress::Started { file: "set.bin".to_owned(), url: url.clone(), from, bytes: 1_200_000 };
    assert_eq!(told[0], started(0));
    assert!(told.contains(&started(100)));
    assert!(
        matches!(&told[2], Progress::Retry { reason, .. } if reason.starts_with("the connection")),
        "{:?}",
        told[2]
    );
    assert_eq!(told.last(), Some(&Progress::At { file: "set.bin".to_owned(), at: 1_200_000, bytes: 1_200_000 }));
}
