//! Downloads as the user sees them: where from and how much before they start, then how far they are.

use crate::data::DataError;
use crate::data::fetch::{self, FetchOptions, Progress};
use crate::launcher::arguments::Global;
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::text;
use crate::protocol::DataSource;
use std::path::Path;
use std::time::{Duration, Instant};

/// The data that `spec` means; a named set that is not here is downloaded, unless `--offline`.
pub fn data_source(spec: &str, folder: Option<&Path>, global: &Global) -> Result<DataSource> {
    let options = FetchOptions::new(folder.map(Path::to_owned), global.offline);
    let mut show = Show::new(global);
    fetch::obtain(spec, &options, &mut |progress| show.progress(&progress)).map_err(|error| failure(&error))
}

/// Errors of data are failures with their own code and words.
pub fn failure(error: &DataError) -> Failure {
    Failure::new(Code::from_number(error.exit_code()), error.to_string())
        .with_maybe_help(error.help().map(str::to_owned))
}

/// Shows a download on standard error, a line now and then: it looks the same on a terminal and in a file.
pub struct Show {
    quiet: bool,
    last: Instant,
}

impl Show {
    pub fn new(global: &Global) -> Show {
        Show { quiet: global.quiet, last: Instant::now() }
    }

    pub fn progress(&mut self, progress: &Progress) {
        const INTERVAL: Duration = Duration::from_secs(2);
        if self.quiet {
            return;
        }
        match progress {
            Progress::Started { file, url, from, bytes } => {
                let rest = if *from > 0 { format!(", {} are here already", text::bytes(*from)) } else { String::new() };
                eprintln!("  download {} ({}{rest}) from {}", text::name(file), text::bytes(*bytes), text::name(url));
                self.last = Instant::now();
            }
            Progress::At { file, at, bytes } if self.last.elapsed() >= INTERVAL || at == bytes => {
                let share = *at as f64 / (*bytes).max(1) as f64;
                eprintln!("  download {} {} of {}", text::name(file), text::percent(share), text::bytes(*bytes));
                self.last = Instant::now();
            }
            Progress::At { .. } => {}
            Progress::Retry { url, reason } => {
                eprintln!("  download {} failed: {}", text::name(url), text::name(reason))
            }
        }
    }
}
