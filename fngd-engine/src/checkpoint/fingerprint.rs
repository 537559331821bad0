//! What decides, apart from the program and its input, which bits a computation gives.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The numeric environment of a run. Equal fingerprints mean that resuming continues bit for bit (on the processor).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fingerprint {
    pub program: String,
    pub libtorch: String,
    pub processor: String,
    pub device: String,
    pub threads: usize,
    /// Environment variables that libtorch's number-crunching libraries obey.
    pub variables: BTreeMap<String, String>,
}

/// Prefixes of variables that choose kernels, threads or precision.
const PREFIXES: [&str; 10] =
    ["OMP_", "KMP_", "GOMP_", "MKL_", "ONEDNN_", "DNNL_", "ATEN_", "CUBLAS_", "NVIDIA_TF32", "PYTORCH_"];

impl Fingerprint {
    /// The fingerprint of this process.
    pub fn of_this_process(libtorch: &str, device: &str, threads: usize) -> Self {
        let variables = std::env::vars_os().filter_map(|(name, value)| {
            let name = name.into_string().ok()?;
            let chosen = PREFIXES.iter().any(|prefix| name.starts_with(prefix)) || name == "CUDA_VISIBLE_DEVICES";
            chosen.then(|| (name, value.to_string_lossy().into_owned()))
        });
        Self {
            program: env!("CARGO_PKG_VERSION").to_owned(),
            libtorch: libtorch.to_owned(),
            processor: processor(),
            device: device.to_owned(),
            threads,
            variables: variables.collect(),
        }
    }

    /// What differs between `self` (then) and `now`: `threads 8 -> 2`. Empty if resuming is exact.
    pub fn differences(&self, now: &Self) -> Vec<String> {
        let mut found = Vec::new();
        let mut compare = |what: &str, then: &str, now: &str| {
            if then != now {
                found.push(format!("{what} {then} -> {now}"));
            }
        };
        compare("program", &self.program, &now.program);
        compare("libtorch", &self.libtorch, &now.libtorch);
        compare("processor", &self.processor, &now.processor);
        compare("device", &self.device, &now.device);
        compare("threads", &self.threads.to_string(), &now.threads.to_string());
        let names: std::collections::BTreeSet<_> = self.variables.keys().chain(now.variables.keys()).collect();
        for name in names {
            let value = |of: &Self| of.variables.get(name).map_or("unset", String::as_str).to_owned();
            compare(name, &value(self), &value(now));
        }
        found
    }
}

/// Model name of the processor and the widest vector instructions that it has, which choose the kernels.
fn processor() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let field = |key: &str| {
        let line = text.lines().find(|line| line.starts_with(key));
        line.and_then(|line| line.split_once(':')).map_or("", |(_, value)| value.trim())
    };
    let flags: Vec<&str> = field("flags").split(' ').collect();
    let widest = ["amx_bf16", "avx512f", "avx2", "sse4_2"].into_iter().find(|wanted| flags.contains(wanted));
    format!("{} {} {}", std::env::consts::ARCH, field("model name"), widest.unwrap_or("")).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_say_then_and_now() {
        let then = Fingerprint::of_this_process("2.11.0", "cpu", 8);
        assert_eq!(then.differences(&then), Vec::<String>::new());
        let mut now = Fingerprint { threads: 2, ..then.clone() };
        now.variables.insert("ATEN_CPU_CAPABILITY".to_owned(), "avx2".to_owned());
        assert_eq!(then.differences(&now), ["threads 8 -> 2", "ATEN_CPU_CAPABILITY unset -> avx2"]);
    }
}
