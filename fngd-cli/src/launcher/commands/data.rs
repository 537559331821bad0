//! `data list`, `fetch`, `verify` and `path`.

use crate::data::fetch::{self, FetchOptions};
use crate::launcher::arguments::{Data, DataSet, Global};
use crate::launcher::download::{Show, failure};
use crate::launcher::failure::{Code, Failure, Result};
use crate::launcher::{print_line, text};
use serde_json::{Value, json};

pub fn run(command: &Data, global: &Global) -> Result<u8> {
    match command {
        Data::List { data_dir } => list(data_dir.as_deref(), global),
        Data::Fetch(set) => fetch(set, global),
        Data::Verify(set) => verify(set, global),
        Data::Path(set) => path(set, global),
    }
}

fn list(folder: Option<&std::path::Path>, global: &Global) -> Result<u8> {
    let sets = fetch::list(folder).map_err(|error| failure(&error))?;
    if global.json {
        return document(json!({ "sets": sets }));
    }
    print_line(&format!("  {:<15} {:>10}   {:<9} terms", "name", "download", "here"));
    for set in sets {
        let here = if set.bytes == 0 || set.path.is_some() { "yes" } else { "no" };
        let bytes = if set.bytes == 0 { "-".to_owned() } else { text::bytes(set.bytes) };
        print_line(&format!("  {:<15} {bytes:>10}   {here:<9} {}", set.name, set.terms));
        if let Some(path) = set.path {
            print_line(&format!("  {:<15} {:>10}   {}", "", "", path.display()));
        }
    }
    Ok(0)
}

fn fetch(set: &DataSet, global: &Global) -> Result<u8> {
    let options = FetchOptions::new(set.data_dir.clone(), global.offline);
    let mut show = Show::new(global);
    let fetched =
        fetch::fetch(&set.name, &options, &mut |progress| show.progress(&progress)).map_err(|error| failure(&error))?;
    if global.json {
        return document(json!(fetched));
    }
    let how = match fetched.downloaded {
        0 => "was here already".to_owned(),
        bytes => format!("downloaded {}, checksums right", text::bytes(bytes)),
    };
    print_line(&format!("  {} {how}: {}", fetched.name, fetched.path.display()));
    Ok(0)
}

fn verify(set: &DataSet, global: &Global) -> Result<u8> {
    let files = fetch::verify(&set.name, set.data_dir.as_deref()).map_err(|error| failure(&error))?;
    let bad: Vec<String> = files.iter().filter(|file| !file.good).map(|file| file.path.display().to_string()).collect();
    if global.json {
        document(json!({ "files": files, "good": bad.is_empty() }))?;
    } else {
        for file in &files {
            let state = match (&file.found, file.good) {
                (_, true) => "good",
                (None, _) => "missing",
                (Some(_), _) => "WRONG",
            };
            print_line(&format!("  {state:<8} {}", file.path.display()));
            if let (Some(found), false) = (&file.found, file.good) {
                print_line(&format!("           SHA-256 is {found}\n           expected   {}", file.expected));
            }
        }
    }
    match bad.len() {
        0 => Ok(0),
        // The document says it already, and there is one document.
        _ if global.json => Ok(Code::Data as u8),
        _ => Err(Failure::new(Code::Data, format!("not as downloaded: {}", bad.join(", ")))
            .with_help(format!("fngd-cli data fetch {}", text::name(&set.name)))),
    }
}

fn path(set: &DataSet, global: &Global) -> Result<u8> {
    let path = fetch::path(&set.name, set.data_dir.as_deref()).map_err(|error| failure(&error))?;
    if global.json {
        return document(json!({ "name": set.name, "path": path }));
    }
    print_line(&path.display().to_string());
    Ok(0)
}

fn document(mut value: Value) -> Result<u8> {
    value["schema"] = 1.into();
    print_line(&format!("{value:#}"));
    Ok(0)
}
