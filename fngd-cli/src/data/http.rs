//! One request for the rest of one file, over HTTPS.

use std::io::Read;
use std::time::Duration;
use ureq::http::header;

/// Most hops from one address to another.
const REDIRECTS: usize = 5;

/// How long to wait for what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timeouts {
    /// Until a connection is made.
    pub connect: Duration,
    /// Without a single byte arriving.
    pub stall: Duration,
}

/// An answer whose body can be read.
pub(super) struct Answer {
    /// Position in the file of the body's first byte: what was asked for, or 0.
    pub start: u64,
    pub body: Box<dyn Read + Send>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Trying again may help.
    Passing(String),
    /// It will not.
    Final(String),
}

/// Asks for `url` from byte `start` on, of a file that must have `bytes` bytes.
///
/// Only `https://` is spoken, and `http://` to 127.0.0.1; a redirect to anything else is refused.
pub(super) fn get(url: &str, start: u64, bytes: u64, timeouts: Timeouts) -> Result<Answer, Refusal> {
    let mut url = url.to_owned();
    let is_local = is_loopback(&url);
    for _ in 0..=REDIRECTS {
        if !(url.starts_with("https://") || is_local && is_loopback(&url)) {
            return Err(Refusal::Final(format!("only https is allowed, found {url}")));
        }
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .accept_encoding("identity")
            .user_agent(concat!("fngd-cli/", env!("CARGO_PKG_VERSION")))
            .timeout_resolve(Some(timeouts.connect))
            .timeout_connect(Some(timeouts.connect))
            .timeout_recv_response(Some(timeouts.stall))
            .timeout_per_read(Some(timeouts.stall));
        let config = if is_loopback(&url) { config.proxy(None) } else { config };
        let mut request = ureq::Agent::new_with_config(config.build()).get(&url);
        if start > 0 {
            request = request.header("Range", format!("bytes={start}-"));
        }
        let response = request.call().map_err(|error| Refusal::Passing(error.to_string()))?;
        let text = |name| response.headers().get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
        match response.status().as_u16() {
            301 | 302 | 303 | 307 | 308 => {
                let target =
                    text(header::LOCATION).ok_or_else(|| Refusal::Final("a redirect to nowhere".to_owned()))?;
                url = resolve(&url, target);
                continue;
            }
            status @ (200 | 206) => {
                if text(header::CONTENT_TYPE).is_some_and(|kind| kind.starts_with("text/html")) {
                    return Err(Refusal::Final("expected a file, found a web page".to_owned()));
                }
                let begins = if status == 206 { text(header::CONTENT_RANGE).and_then(range_start) } else { Some(0) };
                let begins = begins.filter(|&begins| begins == start || begins == 0);
                let Some(begins) = begins else {
                    return Err(Refusal::Final(format!("asked for bytes from {start} on, got others")));
                };
                let length = text(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
                if let Some(length) = length.filter(|&length| length != bytes - begins) {
                    return Err(Refusal::Final(format!("expected {} bytes, found {length}", bytes - begins)));
                }
                return Ok(Answer { start: begins, body: Box::new(response.into_body().into_reader()) });
            }
            status @ (408 | 429 | 500..) => return Err(Refusal::Passing(format!("the server answered {status}"))),
            status => return Err(Refusal::Final(format!("the server answered {status}"))),
        }
    }
    Err(Refusal::Final(format!("more than {REDIRECTS} redirects")))
}

fn is_loopback(url: &str) -> bool {
    url.strip_prefix("http://127.0.0.1").is_some_and(|rest| rest.starts_with([':', '/']))
}

/// The address that `target`, found at `url`, means.
fn resolve(url: &str, target: &str) -> String {
    if target.contains("://") {
        return target.to_owned();
    }
    let host_end =
        url.find("://").and_then(|at| url[at + 3..].find('/').map(|slash| at + 3 + slash)).unwrap_or(url.len());
    if let Some(host) = target.strip_prefix("//") {
        return format!("{}//{host}", url.split("//").next().unwrap_or("https:"));
    }
    if target.starts_with('/') {
        return format!("{}{target}", &url[..host_end]);
    }
    let folder_end = url.rfind('/').filter(|&slash| slash >= host_end).map_or(url.len(), |slash| slash + 1);
    format!("{}{target}", &url[..folder_end])
}

/// N of `bytes N-M/T`.
fn range_start(range: &str) -> Option<u64> {
    range.strip_prefix("bytes ")?.split_once('-')?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{is_loopback, range_start, resolve};

    #[test]
    fn addresses() {
        assert_eq!(resolve("https://a.b/c/d", "https://e/f"), "https://e/f");
        assert_eq!(resolve("https://a.b/c/d", "/f"), "https://a.b/f");
        assert_eq!(resolve("https://a.b/c/d", "f"), "https://a.b/c/f");
        assert_eq!(resolve("https://a.b/c/d", "//e/f"), "https://e/f");
        assert!(is_loopback("http://127.0.0.1:80/x") && !is_loopback("http://127.0.0.1.evil.org/x"));
        assert_eq!((range_start("bytes 5-9/10"), range_start("bytes */10")), (Some(5), None));
    }
}
